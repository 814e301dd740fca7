"""Accounts: lost, duplicated, late and corrupted items are distinguished."""

from ledger.account import (
    Account,
    Accounts,
    Found,
    Observations,
    RunRecord,
    account_of_counter,
    account_of_items,
    is_complete,
    longest_gap,
)

_NS = 1_000_000_000
_LATE = 5.0


def _book(items: int) -> RunRecord:
    """Return a run with one item a second, from 100 s on."""
    return RunRecord("run", {number: (100 + number) * _NS for number in range(items)})


def _seen(*numbers: int, intact: bool = True) -> list[Found]:
    return [Found(number, intact) for number in numbers]


def _settled(*looks: tuple[float, list[Found]], run_record: RunRecord | None = None) -> Account:
    run_record = run_record or _book(4)
    for now, found in looks:
        run_record.logs.add(found, now)
    return account_of_items(run_record, run_record.logs, _LATE)


def test_items_found_once_make_no_difference() -> None:
    account = _settled((104.0, _seen(0, 1, 2, 3)))
    assert account == Account(sent=4, found=4, latest=4.0)
    assert account.difference == 0


def test_missing_item_is_lost() -> None:
    account = _settled((104.0, _seen(0, 3)))
    assert (account.lost, account.lost_numbers, account.found) == (2, (1, 2), 2)
    assert account.difference == 2


def test_item_found_several_times_in_one_search_is_duplicated() -> None:
    account = _settled((104.0, _seen(0, 1, 1, 1, 2, 3)))
    assert (account.duplicates, account.lost, account.difference) == (2, 0, 2)


def test_item_found_in_two_searches_is_no_duplicate() -> None:
    account = _settled((101.0, _seen(0, 1)), (104.0, _seen(0, 1, 2, 3)))
    assert account.difference == 0


def test_item_found_late_makes_no_difference() -> None:
    account = _settled((104.0, _seen(0, 1, 3)), (110.5, _seen(2)), (200.0, _seen(2)))
    assert (account.late, account.latest, account.difference) == (1, 8.5, 0)


def test_damaged_item_is_corrupted_and_not_lost() -> None:
    account = _settled((104.0, [*_seen(0, 1, 2), *_seen(3, intact=False)]))
    assert (account.corrupted, account.lost, account.difference) == (1, 0, 1)


def test_item_without_a_known_number_is_corrupted() -> None:
    account = _settled((104.0, [*_seen(0, 1, 2, 3, 77), Found(None, intact=False)]))
    assert (account.corrupted, account.found) == (2, 4)


def test_last_item_of_a_killed_process_may_be_missing() -> None:
    run_record = _book(4)
    run_record.uncertain = {3}
    run_record.logs.add(_seen(0, 1, 2), 104.0)
    run_record.spans.add(_seen(0, 1, 2, 3), 104.0)
    assert account_of_items(run_record, run_record.logs, _LATE).difference == 0
    assert account_of_items(run_record, run_record.logs, _LATE).sent == 3
    assert account_of_items(run_record, run_record.spans, _LATE).sent == 4
    assert is_complete(run_record)


def test_run_is_complete_when_both_signals_are() -> None:
    run_record = _book(2)
    run_record.spans.add(_seen(0, 1), 104.0)
    run_record.logs.add(_seen(0), 104.0)
    assert not is_complete(run_record)
    run_record.logs.add(_seen(1), 104.0)
    assert is_complete(run_record)


def test_counters_of_all_processes_add_up() -> None:
    assert account_of_counter(_book(4), [[(1.0, 1.0), (2.0, 3.0)], [(5.0, 1.0)]]) == Account(
        sent=4, found=4
    )


def test_counter_below_is_loss_and_above_is_duplication() -> None:
    assert account_of_counter(_book(4), [[(1.0, 3.0)]]).lost == 1
    assert account_of_counter(_book(4), [[(1.0, 6.0)]]).duplicates == 2
    assert account_of_counter(_book(4), []).lost == 4


def test_counter_that_falls_is_corrupted() -> None:
    assert account_of_counter(_book(4), [[(1.0, 4.0), (2.0, 2.0), (3.0, 4.0)]]).corrupted == 1


def test_gap_is_the_longest_time_without_a_sample_of_any_process() -> None:
    assert longest_gap([[(1.0, 0), (2.0, 1)], [(1.5, 0), (4.0, 1), (4.5, 2)]]) == 2.0
    assert longest_gap([[(1.0, 0)]]) == longest_gap([]) == 0.0


def test_accounts_add_up_over_the_signals() -> None:
    accounts = Accounts(
        run="run",
        spans=Account(sent=3, found=2, lost=1),
        logs=Account(sent=3, found=3, duplicates=2),
        increments=Account(sent=3, found=3, corrupted=4),
        gap=1.0,
    )
    assert (accounts.lost, accounts.duplicates, accounts.corrupted) == (1, 2, 4)
    assert accounts.difference == 7


def test_empty_sightings_have_nothing() -> None:
    assert account_of_items(_book(0), Observations(), _LATE) == Account(sent=0, found=0)
