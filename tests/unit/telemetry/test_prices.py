"""The price table: the one we ship, and an operator's."""

from pathlib import Path

import pytest

from chatscope.genai.pricing import PriceTable, PriceTableError


def test_cost_is_the_price_of_both_kinds_of_tokens(tmp_path: Path) -> None:
    table = tmp_path / "prices.json"
    table.write_text('{"m": {"prompt": 1.0, "completion": 10.0}}')
    assert PriceTable.load(table).cost("m", 1_000_000, 500_000) == 6.0


def test_model_without_a_price_has_no_cost() -> None:
    assert PriceTable.load().cost("nobody-knows", 1, 1) is None


def test_shipped_table_prices_the_simulated_model() -> None:
    assert PriceTable.load().cost("simulated-1", 100, 100)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"m": {"prompt": -1, "completion": 1}}', "m.prompt"),
        ('{"m": {"prompt": 1}}', "m.completion"),
        ('{"m": {"prompt": 1, "completion": 1, "input": 2}}', "m.input"),
        ("[]", "the file"),
        ("{", "the file"),
    ],
)
def test_bad_table_is_refused_with_the_entry_and_what_is_accepted(
    tmp_path: Path, text: str, named: str
) -> None:
    table = tmp_path / "prices.json"
    table.write_text(text)
    with pytest.raises(PriceTableError) as caught:
        PriceTable.load(table)
    assert str(caught.value).startswith(f"{table}: {named}: ")
    assert str(caught.value).endswith(
        '; accepted is {"model": {"prompt": USD, "completion": USD}}, each for a million tokens, '
        "0 or more"
    )


def test_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(PriceTableError, match=r"none\.json"):
        PriceTable.load(tmp_path / "none.json")
