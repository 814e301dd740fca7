"""The error of commands."""


class CommandError(Exception):
    """The command cannot continue; the message names the reason."""
