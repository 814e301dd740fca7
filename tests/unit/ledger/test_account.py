"""The account: what is lost, twice there, late and spoilt is told apart."""

from ledger.account import (
    Account,
    Accounts,
    Book,
    Found,
    Sightings,
    is_complete,
    longest_gap,
    settle_items,
    settle_sums,
)

_NS = 1_000_000_000
_LATE = 5.0


def _book(items: int) -> Book:
    """One a second, from 100 s on."""
    return Book("run", {number: (100 + number) * _NS for number in range(items)})


def _seen(*numbers: int, intact: bool = True) -> list[Found]:
    return [Found(number, intact) for number in numbers]


def _settled(*looks: tuple[float, list[Found]], book: Book | None = None) -> Account:
    book = book or _book(4)
    for now, found in looks:
        book.logs.note(found, now)
    return settle_items(book, book.logs, _LATE)


def test_all_that_is_there_once_is_no_difference() -> None:
    account = _settled((104.0, _seen(0, 1, 2, 3)))
    assert account == Account(sent=4, found=4, latest=4.0)
    assert account.difference == 0


def test_what_is_nowhere_is_lost() -> None:
    account = _settled((104.0, _seen(0, 3)))
    assert (account.lost, account.lost_numbers, account.found) == (2, (1, 2), 2)
    assert account.difference == 2


def test_what_one_look_shows_several_times_is_there_twice() -> None:
    account = _settled((104.0, _seen(0, 1, 1, 1, 2, 3)))
    assert (account.twice, account.lost, account.difference) == (2, 0, 2)


def test_what_two_looks_show_is_not_there_twice() -> None:
    account = _settled((101.0, _seen(0, 1)), (104.0, _seen(0, 1, 2, 3)))
    assert account.difference == 0


def test_what_was_first_seen_after_its_time_is_late_and_no_difference() -> None:
    account = _settled((104.0, _seen(0, 1, 3)), (110.5, _seen(2)), (200.0, _seen(2)))
    assert (account.late, account.latest, account.difference) == (1, 8.5, 0)


def test_what_is_not_as_it_was_made_is_corrupted_and_not_lost() -> None:
    account = _settled((104.0, [*_seen(0, 1, 2), *_seen(3, intact=False)]))
    assert (account.corrupted, account.lost, account.difference) == (1, 0, 1)


def test_what_has_no_number_or_that_of_nobody_is_corrupted() -> None:
    account = _settled((104.0, [*_seen(0, 1, 2, 3, 77), Found(None, intact=False)]))
    assert (account.corrupted, account.found) == (2, 4)


def test_what_a_killed_process_may_not_have_made_may_be_missing() -> None:
    book = _book(4)
    book.doubtful = {3}
    book.logs.note(_seen(0, 1, 2), 104.0)
    book.spans.note(_seen(0, 1, 2, 3), 104.0)
    assert settle_items(book, book.logs, _LATE).difference == 0
    assert settle_items(book, book.logs, _LATE).sent == 3
    assert settle_items(book, book.spans, _LATE).sent == 4
    assert is_complete(book)


def test_run_is_complete_when_both_signals_are() -> None:
    book = _book(2)
    book.spans.note(_seen(0, 1), 104.0)
    book.logs.note(_seen(0), 104.0)
    assert not is_complete(book)
    book.logs.note(_seen(1), 104.0)
    assert is_complete(book)


def test_counters_of_all_processes_add_up() -> None:
    assert settle_sums(_book(4), [[(1.0, 1.0), (2.0, 3.0)], [(5.0, 1.0)]]) == Account(
        sent=4, found=4
    )


def test_counter_that_is_short_lost_and_one_that_is_over_has_some_twice() -> None:
    assert settle_sums(_book(4), [[(1.0, 3.0)]]).lost == 1
    assert settle_sums(_book(4), [[(1.0, 6.0)]]).twice == 2
    assert settle_sums(_book(4), []).lost == 4


def test_counter_that_falls_is_corrupted() -> None:
    assert settle_sums(_book(4), [[(1.0, 4.0), (2.0, 2.0), (3.0, 4.0)]]).corrupted == 1


def test_gap_is_the_longest_time_without_a_sample_of_any_process() -> None:
    assert longest_gap([[(1.0, 0), (2.0, 1)], [(1.5, 0), (4.0, 1), (4.5, 2)]]) == 2.0
    assert longest_gap([[(1.0, 0)]]) == longest_gap([]) == 0.0


def test_accounts_add_up_over_the_signals() -> None:
    accounts = Accounts(
        run="run",
        spans=Account(sent=3, found=2, lost=1),
        logs=Account(sent=3, found=3, twice=2),
        increments=Account(sent=3, found=3, corrupted=4),
        gap=1.0,
    )
    assert (accounts.lost, accounts.twice, accounts.corrupted) == (1, 2, 4)
    assert accounts.difference == 7


def test_empty_sightings_have_nothing() -> None:
    assert settle_items(_book(0), Sightings(), _LATE) == Account(sent=0, found=0)
