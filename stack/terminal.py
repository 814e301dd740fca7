"""The console of every command: works in any encoding, and when its output is piped to `head`."""

from rich.console import Console

from stack import stdio


class Terminal(Console):
    """A console that goes on in silence once nobody reads any more."""

    def __init__(self) -> None:
        stdio.replace_unencodable()
        super().__init__(highlight=False)

    def on_broken_pipe(self) -> None:
        """Let the command finish: its exit code tells whether it did its work."""
        self.quiet = True
        stdio.discard_output()
