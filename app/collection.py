"""The garbage collector of a serving process.

What a startup makes is hardly ever garbage. The collector would look through all of it: during the
startup again and again, and later in each full collection, which would stop the event loop for tens
of milliseconds.
"""

import gc


def pause() -> None:
    """Collect nothing until `resume`."""
    gc.disable()


def resume() -> None:
    """Collect garbage among the objects that are made from now on; all others are kept."""
    gc.freeze()
    gc.enable()
