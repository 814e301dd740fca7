"""`python -m app.keys new NAME`: create a key.

The entry for KEYS_FILE goes to standard output, the key itself, once, to standard error:
`python -m app.keys new alice >> keys.toml`.
"""

import argparse
import sys

from pydantic import TypeAdapter, ValidationError

from app.config_file import NAME_ACCEPTS, Name
from app.keys.keyring import digest_of, new_key


def main(arguments: list[str] | None = None) -> int:
    """Return the process's exit code: 0, or 2 for an invalid name."""
    parser = argparse.ArgumentParser(prog="python -m app.keys", description="API keys of clients.")
    commands = parser.add_subparsers(required=True)
    new = commands.add_parser("new", help="create a key; print its entry for KEYS_FILE")
    new.add_argument("name", help=f"the key's name: {NAME_ACCEPTS}")
    name = parser.parse_args(arguments).name
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        parser.error(f"NAME = {name!r} is not accepted: give {NAME_ACCEPTS}")
    key = new_key()
    sys.stderr.write(f"The key of {name}, which is shown only once:\n{key}\n")
    sys.stdout.write(f'\n[[keys]]\nname = "{name}"\nsha256 = "{digest_of(key).hex()}"\n')
    return 0


if __name__ == "__main__":
    sys.exit(main())
