"""The price table: ours, and an operator's."""

import json
import re
import subprocess
import sys
import timeit
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chatscope import names
from chatscope.genai import ServedModel, report_prices
from chatscope.genai.price_names import provider_of
from chatscope.genai.pricing import SHIPPED, Price, PriceTable, PriceTableError, Tier
from chatscope.genai.recorder import Recorder
from chatscope.genai.request import Usage
from chatscope.instruments import Instruments
from tests.memory import Memory

_MILLION = Usage(1_000_000, 1_000_000)


def _own(tmp_path: Path, content: object) -> PriceTable:
    table = tmp_path / "prices.json"
    table.write_text(json.dumps(content))
    return PriceTable.load(table)


def test_cost_is_the_price_of_both_kinds_of_tokens(tmp_path: Path) -> None:
    table = _own(tmp_path, {"m": {"prompt": 1.0, "completion": 10.0}})
    assert table.cost("m", 1_000_000, 500_000) == 6.0


def test_model_without_a_price_has_no_cost() -> None:
    assert PriceTable.load().cost("nobody-knows", 1, 1) is None


def test_shipped_table_prices_the_simulated_model() -> None:
    assert PriceTable.load().cost("simulated-1", 100, 100)


def test_simulated_model_has_no_price_beside_real_ones(tmp_path: Path) -> None:
    table = PriceTable.load().without_simulated()
    assert table.cost("simulated-1", 100, 100) is None
    assert table.cost("simulated-1", 100, 100, "simulated") is None
    assert table.cost("gpt-4o", 100, 100)
    # The operator's word counts.
    own = _own(tmp_path, {"simulated-1": {"prompt": 1, "completion": 1}}).without_simulated()
    assert own.cost("simulated-1", 100, 100)


# -- which price ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("snapshot", "model"),
    [
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-20240806", "gpt-4o"),
        ("GPT-4o", "gpt-4o"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("claude-haiku-4-5@20251001", "claude-haiku-4-5"),
        ("models/gemini-2.5-flash", "gemini-2.5-flash"),
    ],
)
def test_dated_snapshot_has_the_price_of_its_model(snapshot: str, model: str) -> None:
    table = PriceTable.load()
    assert table.price(snapshot) == table.price(model) != None  # noqa: E711


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o-audio-preview-2024-12-17",
        "ft:gpt-4o-mini-2024-07-18:org::id",
        "gpt-4o-mini-2024-07-18.ft-0123",
        "gpt-4o-2024-13-01",
        "gpt-4o-2024-08-06-extra",
        "gpt-4o-max",
        "my-gpt-4o",
        "gpt-4",  # of another provider, below
        "",
    ],
)
def test_near_name_has_no_price(model: str) -> None:
    provider = "anthropic" if model == "gpt-4" else "openai"
    assert PriceTable.load().price(model, provider) is None


def test_near_name_in_the_table_has_its_own_price() -> None:
    table = PriceTable.load()
    assert table.price("o3-pro-2025-06-10", "openai") == Price(prompt=20.0, completion=80.0)
    assert table.price("o3-2025-04-16", "openai") != table.price("o3-pro", "openai")
    # An old snapshot that has kept its price.
    assert table.price("gpt-4o-2024-05-13", "openai") == Price(prompt=5.0, completion=15.0)


@pytest.mark.parametrize(
    ("name", "host", "provider"),
    [
        ("openai", "api.openai.com", "openai"),
        ("openai", "api.deepseek.com", "deepseek"),
        ("openai", "OPENROUTER.AI", "openrouter"),
        ("openai", "team.openai.azure.com", "azure"),
        ("openai", "eu-west4-aiplatform.googleapis.com", "google"),
        ("openai", "bedrock-runtime.eu-west-1.amazonaws.com", "aws"),
        ("openai", "llm.example.org", "openai"),
        ("openai", "api.openai.com.example.org", "openai"),
        ("openai", "notopenrouter.ai", "openai"),
        ("openai", "team.openai.azure.com.example.org", "openai"),
        ("gcp.gemini", None, "google"),
        ("aws.bedrock", None, "aws"),
        ("x_ai", "", "x-ai"),
        ("my-provider", None, "my-provider"),
        (None, None, None),
        ("", "", None),
    ],
)
def test_host_tells_the_provider_and_else_its_name(
    name: str | None, host: str | None, provider: str | None
) -> None:
    assert provider_of(name, host) == provider


def test_price_is_that_of_the_provider() -> None:
    table = PriceTable.load()
    groq = table.price("openai/gpt-oss-120b", "openai", "api.groq.com")
    router = table.price("openai/gpt-oss-120b", "openai", "openrouter.ai")
    assert groq
    assert router
    assert groq != router
    assert table.price("openai/gpt-4o", "openai", "openrouter.ai")
    assert table.price("gpt-4o", "openai", "openrouter.ai") is None
    assert table.price("gpt-4o", "openai", "api.groq.com") is None
    assert table.price("gpt-4o", "openai", "x.openai.azure.com") == table.price("gpt-4o", "openai")
    assert table.price("anthropic/claude-opus-5", "openai", "localhost") == table.price(
        "claude-opus-5", "anthropic"
    )
    assert table.price("gpt-4o", "my-provider") is None


def test_own_price_comes_before_ours_for_all_names_of_a_model(tmp_path: Path) -> None:
    price = {"prompt": 1, "completion": 2}
    table = _own(
        tmp_path,
        {
            "gpt-4o": price,
            "azure:gpt-4.1": price,
            "groq": {"llama-3.1-8b-instant": price, "my-model": price},
            "vendor/model:free": {"prompt": 0, "completion": 0},
        },
    )
    assert table.cost("gpt-4o", 1_000_000, 1_000_000, "openai") == 3
    assert table.cost("gpt-4o-2024-08-06", 1_000_000, 1_000_000, "openai") == 3
    assert table.cost("gpt-4o-2024-05-13", 1_000_000, 1_000_000, "openai") == 20
    assert table.cost_of(_MILLION, "gpt-4.1", "openai", "x.openai.azure.com") == 3
    assert table.cost("gpt-4.1", 1_000_000, 1_000_000, "openai") == 10
    assert table.cost("llama-3.1-8b-instant", 1_000_000, 1_000_000, "groq") == 3
    assert table.cost("my-model", 1_000_000, 1_000_000, "groq") == 3
    assert table.cost("my-model", 1_000_000, 1_000_000, "openai") is None
    assert table.cost("vendor/model:free", 1, 1, "openrouter") == 0
    assert table.cost("gpt-4o-mini", 1_000_000, 0, "openai") == 0.15


def test_whole_table_replaces_ours(tmp_path: Path) -> None:
    models = {"m": {"prompt": 1, "completion": 2}}
    content = {"version": "mine", "date": "2026-01-01", "providers": {"openai": {"models": models}}}
    table = _own(tmp_path, content)
    assert table.cost("m", 1_000_000, 1_000_000, "openai") == 3
    assert table.cost("gpt-4o", 1, 1, "openai") is None
    assert table.version == "mine, 2026-01-01"
    assert PriceTable.load(SHIPPED) == PriceTable.load()


def test_cost_of_the_provider_comes_before_our_table_only(tmp_path: Path) -> None:
    usage = Usage(1_000_000, 0, reported_cost=0.5)
    assert PriceTable.load().cost_of(usage, "anything", "openrouter") == 0.5
    own = _own(tmp_path, {"anything": {"prompt": 7, "completion": 7}})
    assert own.cost_of(usage, "anything", "openrouter") == 7


@pytest.mark.parametrize(
    ("now", "prompt"),
    [
        ("2026-11-30T23:59:59", 1),
        ("2026-12-01T12:00:00", 2),
        ("2026-12-01T22:30:00", 3),  # a Tuesday
        ("2026-12-02T01:59:59", 3),
        ("2026-12-02T02:00:00", 2),
        ("2026-12-05T22:30:00", 2),  # a Saturday
    ],
)
def test_price_changes_on_a_day_and_by_the_hour(now: str, prompt: int) -> None:
    night = {"between": ["22:30", "02:00"], "weekdays": True, "from": "2026-12-01"}
    entry = [
        {"prompt": 1, "completion": 0},
        {"from": "2026-12-01", "prompt": 2, "completion": 0},
        {**night, "prompt": 3, "completion": 0},
    ]
    table = PriceTable({}, {"providers": {"openai": {"models": {"m": entry}}}})
    at = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert table.cost_of(_MILLION, "m", "openai", now=at) == prompt


# -- formula ----------------------------------------------------------------------

_ALL = Price(
    prompt=1,
    completion=2,
    cache_read=0.5,
    cache_write=4,
    cache_write_1h=8,
    audio_input=16,
    audio_cache_read=32,
    image_input=64,
    reasoning=128,
    audio_output=256,
    image_output=512,
)
_DETAILED = Usage(
    1_000,
    1_000,
    cache_read_tokens=300,
    cache_write_tokens=200,
    cache_write_1h_tokens=50,
    audio_input_tokens=100,
    audio_cache_read_tokens=40,
    image_input_tokens=10,
    reasoning_tokens=100,
    audio_output_tokens=200,
    image_output_tokens=300,
)


def test_each_kind_of_token_has_its_price() -> None:
    text = 1_000 - (300 + 200 + 60 + 10)
    prompt = text + 260 * 0.5 + 150 * 4 + 50 * 8 + 60 * 16 + 40 * 32 + 10 * 64
    completion = 400 * 2 + 100 * 128 + 200 * 256 + 300 * 512
    assert _ALL.cost(_DETAILED) == pytest.approx((prompt + completion) / 1e6)


def test_kind_without_a_price_has_that_of_its_side() -> None:
    assert Price(prompt=1, completion=2).cost(_DETAILED) == pytest.approx(3_000 / 1e6)
    written = Price(prompt=1, completion=0, cache_write=4)
    assert written.cost(_DETAILED) == pytest.approx((800 + 200 * 4) / 1e6)


def test_unknown_overlap_of_kinds_counts_no_token_twice() -> None:
    usage = Usage(100, 0, cache_read_tokens=80, audio_input_tokens=50)
    price = Price(prompt=1, completion=0, cache_read=0.5, audio_input=16)
    # At least 30 audio tokens came from the cache.
    assert price.cost(usage) == pytest.approx((50 * 0.5 + 50 * 16) / 1e6)


def test_tier_is_that_of_the_whole_request() -> None:
    tiers = (Tier(above=500, prompt=4.0), Tier(above=100, prompt=2.0, completion=3.0))
    price = Price(prompt=1, completion=1, cache_read=0.5, tiers=tiers)
    for prompt, expected in ((100, 100 + 10), (101, 202 + 30), (501, 501 * 4 + 10)):
        assert price.cost(Usage(prompt, 10)) == pytest.approx(expected / 1e6)
    assert price.cost(Usage(200, 0, cache_read_tokens=100)) == pytest.approx((200 + 50) / 1e6)


# -- files ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"m": {"prompt": -1, "completion": 1}}', "m.prompt"),
        ('{"m": {"prompt": 1}}', "m.completion"),
        ('{"m": {"prompt": 1, "completion": 1, "input": 2}}', "m.input"),
        ('{"m": {"prompt": NaN, "completion": 1}}', "m.prompt"),
        ('{"m": {"prompt": 1e400, "completion": 1}}', "m.prompt"),
        ('{"m": {"prompt": true, "completion": 1}}', "m.prompt"),
        ('{"m": {}}', "m.prompt"),
        ('{"m": 1}', "m"),
        ('{"azure": {"m": {"prompt": 1}}}', "azure.m.completion"),
        ('{"m": {"prompt": 1, "completion": 1, "tiers": [{"prompt": 1}]}}', "m.tiers.0.above"),
        ("[]", "the file"),
        ("{", "the file"),
        ("[" * 100_000, "the file"),
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


def test_example_of_the_documentation_is_accepted(tmp_path: Path) -> None:
    page = (SHIPPED.parents[2] / "docs" / "cost.md").read_text()
    [example] = re.findall(r"^```json\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    table = _own(tmp_path, json.loads(example))
    assert table.cost("my-model", 1_000_000, 1_000_000) == 0.75
    assert table.cost_of(_MILLION, "gpt-4o", "openai", "x.openai.azure.com") == 11
    assert table.cost("gemini-2.5-pro", 200_001, 0, "gcp.gemini") == pytest.approx(0.5, abs=1e-4)
    voice = table.price("my-voice")
    assert voice
    # It shows every price that there is.
    assert voice.model_fields_set == Price.model_fields.keys() - {"tiers"}


def test_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(PriceTableError, match=r"none\.json"):
        PriceTable.load(tmp_path / "none.json")


def test_every_shipped_price_is_valid() -> None:
    table = PriceTable.load()
    for provider, entry in table.table["providers"].items():
        for model in (*entry["models"], *entry.get("names", ())):
            assert table.price(model, provider), (provider, model)


@pytest.mark.slow
def test_shipped_table_is_what_the_command_writes(tmp_path: Path) -> None:
    pytest.importorskip("genai_prices", reason="builds the table")
    day, output = PriceTable.load().table["date"], tmp_path / "prices.json"
    command = [sys.executable, "-m", "chatscope.genai.prices_update"]
    subprocess.run([*command, "--date", day, "--output", str(output)], check=True, timeout=240)
    assert output.read_text() == SHIPPED.read_text()


# -- lookups ----------------------------------------------------------------------


def test_repeated_lookup_costs_little_more_than_that_of_a_dictionary() -> None:
    table, model = PriceTable.load(), "claude-haiku-4-5-20251001"
    known = {("openai", "api.anthropic.com", model): 1}

    def look_up() -> Any:
        return table.price(model, "openai", "api.anthropic.com")

    def reference() -> Any:
        return known.get(("openai", "api.anthropic.com", model))

    look_up()
    mine = min(timeit.repeat(look_up, number=2_000, repeat=7))
    theirs = min(timeit.repeat(reference, number=2_000, repeat=7))
    # A dictionary takes a tenth of a microsecond, so this is less than two.
    assert mine < 15 * theirs


def test_table_keeps_a_bounded_number_of_lookups() -> None:
    table = PriceTable.load()
    for number in range(3_000):
        table.price(f"model-{number}", "openai")
    assert table._lookup.cache_info().currsize <= 1_024


# -- report -----------------------------------------------------------------------


def test_models_without_a_price_are_logged_and_exported() -> None:
    memory = Memory()
    logged: list[tuple[str, str]] = []
    recorder = Recorder(
        tracer=memory.providers.tracer_provider.get_tracer("test"),
        instruments=Instruments(memory.providers.meter_provider.get_meter("test")),
        prices=PriceTable.load(),
        log=lambda level, message, _: logged.append((level, message)),
    )
    report_prices(
        recorder,
        [
            ServedModel(name="gpt-4o", provider="openai", server_address="api.openai.com"),
            ServedModel(name="local-llama", provider="openai", server_address="127.0.0.1"),
            ServedModel(name="simulated-1", provider="simulated", free=True),
            ServedModel(name="fast", provider="openai", upstream="gpt-4o-mini"),
        ],
    )
    points = memory.points(names.MODEL_PRICED.name)
    assert {p.attributes[names.GEN_AI_REQUEST_MODEL]: p.value for p in points} == {
        "gpt-4o": 1,
        "local-llama": 0,
        "simulated-1": 1,
        "fast": 1,
    }
    [(level, message)] = logged
    assert level == "WARNING"
    assert "local-llama" in message
    assert "gpt-4o" not in message


@pytest.mark.parametrize(
    ("providers", "place"),
    [
        ([], "providers"),
        ({"p": []}, "providers.p"),
        ({"p": {"models": []}}, "providers.p.models"),
        ({"p": {"names": {"n": {}}}}, "providers.p.names"),
        ({"p": {"fallback": "q"}}, "providers.p.fallback"),
        ({"p": {"models": {"m": {"prompt": 1}}}}, "providers.p.models.m"),
        ({"p": {"models": {"m": ["x"]}}}, "providers.p.models.m"),
        ({"p": {"models": {"m": {"prompt": 1, "completion": -1}}}}, "providers.p.models.m"),
        ({"p": {"models": {"m": {"prompt": 1e308, "completion": 1}}}}, "providers.p.models.m"),
        ({"p": {"models": {"m": {"prompt": 1, "completion": 1, "between": ["1"]}}}}, "models.m"),
        ({"p": {"models": {"m": {"prompt": 1, "completion": 1, "from": "today"}}}}, "models.m"),
    ],
)
def test_whole_table_is_checked_when_it_is_read(
    tmp_path: Path, providers: object, place: str
) -> None:
    with pytest.raises(PriceTableError, match=re.escape(f"{place}: must be")):
        _own(tmp_path, {"version": "v", "providers": providers})


def test_shipped_table_passes_the_check_of_a_whole_table() -> None:
    assert PriceTable.load(SHIPPED).price("gpt-4o", "openai") is not None


def test_price_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "prices.json"
    table.write_text('{"m": {"prompt": ' + "[" * 900 + "]" * 900 + "}}")
    with pytest.raises(PriceTableError):
        PriceTable.load(table)
