"""Literals of OTTL, the language of the Collector's transform processor, in its configuration."""

import json


def quoted(text: str) -> str:
    """Return a text as an OTTL literal; $ is escaped for the Collector's own expansion."""
    return json.dumps(text).replace("$", "$$")


def yaml_item(statement: str) -> str:
    """Return a statement as an item of the list of statements."""
    return "          - '" + statement.replace("'", "''") + "'\n"
