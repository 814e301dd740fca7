"""Selects which variables of the user's environment each native component gets."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

# Needed by every process; none is a secret.
_FOR_ALL: Final = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TERM|TZ|TMPDIR|LANG|LANGUAGE|LC_\w+|XDG_\w+|SSL_CERT_\w+"
    r"|LD_\w+|FAKETIME\w*|GO(GC|MAXPROCS|MEMLIMIT|DEBUG|TRACEBACK)"
)
_GRAFANA: Final = r"GF_\w+|GRAFANA_ADMIN_PASSWORD(_FILE)?"
_ALERTMANAGER: Final = r"ALERT_\w+"
_PROXIES: Final = r"(?i:(HTTPS?|ALL|NO)_PROXY)"
_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
# The service gets all variables that are not for another component, because a models file can refer
# to any name.
_OWN: Final = {
    "app": re.compile(rf"(?!({_GRAFANA}|{_ALERTMANAGER})$)\w+"),
    "alertmanager": re.compile(rf"{_ALERTMANAGER}|{_PROXIES}"),
    "grafana": re.compile(_GRAFANA),
}


def shared(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that all components get."""
    return {name: value for name, value in environ.items() if _FOR_ALL.fullmatch(name)}


def write(directory: Path, environ: Mapping[str, str]) -> None:
    """Write a file with its variables for each component, which stack/own.sh reads."""
    directory.mkdir(mode=0o700, exist_ok=True)
    for component, wanted in _OWN.items():
        lines = [
            f'[ -n "${{{name}+set}}" ] || export {name}={shlex.quote(value)}\n'
            for name, value in environ.items()
            if wanted.fullmatch(name) and _NAME.fullmatch(name) and not _FOR_ALL.fullmatch(name)
        ]
        path = directory / component
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text("".join(lines))
