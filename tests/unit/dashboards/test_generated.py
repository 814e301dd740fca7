"""The committed dashboards equal the generator's output, byte for byte."""

from pathlib import Path

from dashboards.__main__ import FOLDER, made, uids, write
from dashboards.encoding import encode
from tests.each import for_each


def test_each_dashboard_has_its_file_and_each_file_its_dashboard() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == uids()


@for_each({uid: uid for uid in uids()})
def test_file_is_what_the_generator_makes(uid: str) -> None:
    text = (FOLDER / f"{uid}.json").read_text(encoding="utf-8")
    assert text == encode(made(uid)), "run `make dashboards`"


def test_command_writes_the_requested_dashboards(tmp_path: Path) -> None:
    write(["home"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["home.json"]
    assert (tmp_path / "home.json").read_text(encoding="utf-8") == encode(made("home"))
