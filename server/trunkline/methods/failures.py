"""Whatever user code raises, carried to where it is dealt with, and told to its caller as a typed error.

Anything that derives from BaseException may come. Half of it does not survive asyncio: futures refuse StopIteration,
tasks let SystemExit and KeyboardInterrupt out of the loop, and a CancelledError looks like a cancel of whoever awaits.
So what plain functions raise leaves their thread as a value (:func:`attempt`), and is caught before it reaches a task.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any, Final

from trunkline_protocol.errors import ErrorCode, RpcError

MAX_WORDS: Final = 4096
"""Characters of an error's text that its caller gets."""

logger = logging.getLogger("trunkline.methods")


def attempt(function: Callable[..., Any], *args: Any) -> tuple[Any, BaseException | None]:
    """Call a function. Returns its result and None, or None and its exception, neither of which can upset a future."""
    try:
        return function(*args), None
    except BaseException as error:
        return None, error


def words_of(error: BaseException) -> str:
    """``Type: text`` of any exception: bounded, valid Unicode, even where its own ``__str__`` fails."""
    words = _words(_as_raised(error))
    if isinstance(error, BaseExceptionGroup):
        words += f"; the first of them: {_words(_as_raised(_first_of(error)))}"
    return words


def bounded(text: str) -> str:
    """The text, cut where it is too long for an error, with what is no Unicode escaped."""
    if len(text) > MAX_WORDS:
        text = text[: MAX_WORDS - 1] + "…"
    return text.encode("utf-8", "backslashreplace").decode()


def unexpected(method: str, error: BaseException, *, debug: bool) -> RpcError:
    """The INTERNAL_ERROR for an exception of a method that is not an RpcError.

    Args:
        debug: send the traceback to the caller.
    """
    data = {"traceback": _traceback(error)} if debug else {}
    return RpcError(ErrorCode.INTERNAL_ERROR, f"{method} failed: {words_of(error)}", data=data)


def log_failure(method: str, error: BaseException) -> None:
    """Log what a method raised, with its traceback."""
    words = words_of(error)
    _, fault = attempt(lambda: "".join(traceback.format_exception(error)).encode())
    if len(words) < MAX_WORDS and fault is None:
        logger.warning("%s failed", method, exc_info=error)
    else:  # a log would print all of the text, or could not
        logger.warning("%s failed: %s\n%s", method, words, "".join(traceback.format_tb(error.__traceback__)))


def _as_raised(error: BaseException) -> BaseException:
    """The StopIteration that Python has made a RuntimeError of (PEP 479), or the error itself."""
    cause = error.__cause__
    converted = type(error) is RuntimeError and isinstance(cause, (StopIteration, StopAsyncIteration))
    return cause if converted and cause is not None else error


def _first_of(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _words(error: BaseException) -> str:
    text, fault = attempt(str, error)
    if fault is not None:
        text = f"(its text cannot be read: {type(fault).__name__})"
    return bounded(": ".join(filter(len, (type(error).__name__, "".join([text])))))


def _traceback(error: BaseException) -> list[str]:
    lines, _fault = attempt(traceback.format_exception, error)
    return [bounded(line) for line in lines or ()]
