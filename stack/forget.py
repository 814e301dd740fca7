"""Delete the log records of one user: `python -m stack.forget USER`, while the stack is down.

A running Loki rejects deletions (loki.yaml). This command starts Loki alone: first to flush its
memory, then with deletion enabled. Its write-ahead log and its copies of the index would restore
the records, so they are removed in between.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from chatscope.names import USER_ID, prometheus_label
from stack import facts as stack_facts
from stack import way
from stack.facts import ROOT
from stack.identifiers import cleaned
from stack.local_http import local_client
from stack.parts import program_path
from stack.supervisor import make_private
from stack.waiting import poll_until

_PATIENCE_SECONDS: Final = 120.0
_DELETION_SECONDS: Final = 600.0
# Removed after the flush, because they would restore deleted records.
_COPIES: Final = ("wal", "tsdb-shipper-active", "tsdb-shipper-cache")
_WRITE_OUT: Final = ("-ingester.flush-on-shutdown=true",)
_DELETE: Final = (
    "-compactor.deletion-mode=filter-and-delete",
    "-compactor.delete-request-cancel-period=0s",
    "-compactor.compaction-interval=3s",
)
_SINCE: Final = "2000-01-01T00:00:00Z"
_DAYS: Final = 30


class ForgetError(RuntimeError):
    """The records could not be deleted."""


def forget(facts: Mapping[str, str], condition: str) -> tuple[int, int]:
    """Delete all records that match a LogQL condition, such as `| user_id="ann"`.

    Returns their number before and after. Raises ForgetError.
    """
    folder = Path(facts["DATA_DIR"]) / "loki"
    if not folder.is_dir():
        raise ForgetError(f"{folder} does not exist: nothing was recorded")
    query = f'{{service_name=~".+"}} {condition}'
    with _loki(facts, _WRITE_OUT) as client:
        before = _count(client, query)
    for name in _COPIES:
        shutil.rmtree(folder / name, ignore_errors=True)
    with _loki(facts, _DELETE) as client:
        asked = client.post("/loki/api/v1/delete", params={"query": query, "start": _SINCE})
        if not asked.is_success:
            raise ForgetError(f"Loki rejected the deletion: {asked.text.strip()}")
        poll_until(lambda: _is_done(client), "the deletion", _DELETION_SECONDS, 1.0)
    for name in _COPIES:
        shutil.rmtree(folder / name, ignore_errors=True)
    with _loki(facts, ()) as client:
        return before, _count(client, query)


def _is_done(client: Any) -> bool:
    found = client.get("/loki/api/v1/delete").raise_for_status().json()
    return bool(found) and all(each["status"] == "processed" for each in found)


def _count(client: Any, query: str) -> int:
    """Return the number of matching records of the last 30 days, in ranges that Loki accepts."""
    total = 0
    end = time.time() + 60
    for days in range(0, _DAYS, 10):
        at = {"time": end - days * 86_400, "query": f"sum(count_over_time({query} [10d]))"}
        found = client.get("/loki/api/v1/query", params=at).raise_for_status().json()
        total += sum(int(float(each["value"][1])) for each in found["data"]["result"])
    return total


@contextmanager
def _loki(facts: Mapping[str, str], options: Sequence[str]) -> Iterator[Any]:
    """Run Loki alone until the end of the block, with the stack's configuration and data."""
    folder, sockets = Path(facts["DATA_DIR"]), Path(facts["SOCKETS_DIR"])
    make_private(sockets)
    # Only this user can access it while deletion is enabled.
    socket = sockets / f"loki.sock:{facts['LOKI_PORT']}"
    socket.unlink(missing_ok=True)
    command: list[Any] = [
        program_path("loki", facts),
        f"-config.file={ROOT / 'loki' / 'loki.yaml'}",
        "-config.expand-env=true",
        # No rules, so that no alerts are sent.
        f"-ruler.storage.local.directory={folder / 'no-rules'}",
        *options,
    ]
    with (
        (folder / "loki-forget.log").open("a") as log,
        subprocess.Popen(
            command,
            cwd=sockets,
            env={"PATH": os.defpath, "LOKI_PASSWORD": "", **facts},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as process,
        local_client("http://loki", uds=str(socket), timeout=60.0) as client,
    ):
        try:
            poll_until(lambda: client.get("/ready").is_success, "Loki", _PATIENCE_SECONDS)
            yield client
        finally:
            process.terminate()
            process.wait(_PATIENCE_SECONDS)


def condition(user: str, text: str | None) -> str:
    """Return a LogQL condition with quoted values; of a user in each form that may be stored."""
    if text is not None:
        return f"|= {json.dumps(text)}"
    forms = dict.fromkeys((user, cleaned(user)))
    return "| " + " or ".join(f"{prometheus_label(USER_ID)}={json.dumps(form)}" for form in forms)


def main(arguments: Sequence[str]) -> int:
    """Run the command; return 1 if nothing was deleted."""
    parser = argparse.ArgumentParser(prog="python -m stack.forget", description=__doc__)
    parser.add_argument("user", nargs="?", help="the user.id, or its pseudonym")
    parser.add_argument("--containing", metavar="TEXT", help="all records with TEXT in their line")
    given = parser.parse_args(arguments)
    if (given.user is None) == (given.containing is None):
        parser.error("either a user or --containing")
    if not (given.user or given.containing):
        # It would be found in every record.
        parser.error("the user or the text is empty")
    facts = stack_facts.load()
    if way.running(facts) is not None:
        print("the stack is running: make down", file=sys.stderr)
        return 1
    try:
        before, after = forget(facts, condition(given.user or "", given.containing))
    except (ForgetError, TimeoutError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{before} records found, {after} left")
    return int(after > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
