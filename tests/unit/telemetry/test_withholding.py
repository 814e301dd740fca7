"""Exceptions as they are recorded: without the texts that may repeat a prompt or a key."""

import sys
import traceback

from chatscope.withholding import WITHHELD, without_texts

_SECRET = "my secret words"


class _Told(Exception):
    telemetry_text = "the request was refused"

    class Inner(Exception):
        pass


def _raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def _rendered(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_type_and_traceback_stay_and_the_text_does_not() -> None:
    copy = without_texts(_raised(KeyError(_SECRET)))
    assert (type(copy).__name__, type(copy).__module__) == ("KeyError", "builtins")
    text = _rendered(copy)
    assert text.endswith(f"KeyError: {WITHHELD}\n")
    assert "raise error" in text
    assert _SECRET not in text


def test_nested_class_keeps_its_whole_name() -> None:
    text = _rendered(without_texts(_raised(_Told.Inner(_SECRET))))
    assert text.endswith(f".test_withholding._Told.Inner: {WITHHELD}\n")


def test_an_exception_may_say_what_telemetry_may_hold() -> None:
    assert str(without_texts(_raised(_Told(_SECRET)))) == "the request was refused"


def test_causes_and_contexts_lose_their_texts_too() -> None:
    def fail() -> None:
        try:
            try:
                raise KeyError(_SECRET)
            except KeyError as error:
                raise LookupError(_SECRET) from error
        except LookupError:
            raise ValueError(_SECRET)  # noqa: B904

    try:
        fail()
    except ValueError as error:
        text = _rendered(without_texts(error))
    assert _SECRET not in text
    for name in ("KeyError: ", "LookupError: ", "ValueError: "):
        assert f"{name}{WITHHELD}" in text
    assert "The above exception was the direct cause" in text
    assert "During handling of the above exception" in text


def test_a_suppressed_context_is_not_kept() -> None:
    try:
        try:
            raise KeyError(_SECRET)
        except KeyError:
            raise ValueError(_SECRET) from None
    except ValueError as error:
        copy = without_texts(error)
    assert copy.__context__ is None
    assert "KeyError" not in _rendered(copy)


def test_notes_groups_and_locals_hold_nothing() -> None:
    error = ExceptionGroup(_SECRET, [ValueError(_SECRET)])
    error.add_note(_SECRET)
    assert _SECRET not in _rendered(without_texts(_raised(error)))


def test_a_chain_may_be_long_or_a_circle() -> None:
    first = last = _raised(ValueError(_SECRET))
    for _ in range(sys.getrecursionlimit()):
        last.__cause__ = ValueError(_SECRET)
        last = last.__cause__
    assert _rendered(without_texts(first)).count("ValueError") == 20
    first.__cause__ = first
    assert _SECRET not in _rendered(without_texts(first))
