"""The console of every command: supports any encoding, and output piped to `head`."""

from rich.console import Console

from stack import stdio


class Terminal(Console):
    """A console that becomes silent when its reader has left."""

    def __init__(self) -> None:
        stdio.replace_unencodable()
        super().__init__(highlight=False)

    def on_broken_pipe(self) -> None:
        """Let the command finish: its exit code shows whether it succeeded."""
        self.quiet = True
        stdio.discard_output()
