"""The ledger's settings are documented."""

import re
from pathlib import Path

import pytest

from demo.environment import LoadSettingsError
from ledger.settings import LedgerSettings
from tests.each import for_each

_PAGE = (Path(__file__).parents[3] / "docs" / "ledger.md").read_text()


@for_each({name: name for name in LedgerSettings.model_fields})
def test_setting_is_documented_as_it_is(name: str) -> None:
    field = LedgerSettings.model_fields[name]
    assert isinstance(field.json_schema_extra, dict)
    accepted = field.json_schema_extra["accepts"]
    row = (f"`{field.validation_alias}`", f"`{field.default}`", field.description, accepted)
    assert f"| {' | '.join(map(str, row))} |" in _PAGE


def test_no_other_setting_is_documented() -> None:
    known = {str(field.validation_alias) for field in LedgerSettings.model_fields.values()}
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", _PAGE, re.MULTILINE)) == known


@pytest.mark.parametrize("name", ["SECONDS", "RATE", "LATE", "PATIENCE"])
@pytest.mark.parametrize("value", ["0", "-1", "inf", "many"])
def test_a_wrong_value_is_named_with_what_is_accepted(name: str, value: str) -> None:
    with pytest.raises(LoadSettingsError) as caught:
        LedgerSettings.read({f"LEDGER_{name}": value})
    [problem] = caught.value.problems
    assert problem.startswith(f"LEDGER_{name}={value} is not accepted: give ")
