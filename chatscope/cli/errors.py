"""The error of commands."""


class CommandError(Exception):
    """The command cannot go on; the message names the reason."""
