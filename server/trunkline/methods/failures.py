"""Whatever user code raises, carried to where it is dealt with, and told to its caller as a typed error.

Anything that derives from BaseException may come. Half of it does not survive asyncio: futures refuse StopIteration,
tasks let SystemExit and KeyboardInterrupt out of the loop, and a CancelledError looks like a cancel of whoever awaits.
So what plain functions raise leaves their thread as a value (:func:`attempt`), and is caught before it reaches a task.
"""

from __future__ import annotations

import logging
import secrets
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


class UncarriedError(RpcError):
    """SERIALIZATION_ERROR where user code failed at it: ``__cause__``, which the message says nothing of."""


def new_error_id() -> str:
    """What joins an error that a caller got with its text in the log."""
    return secrets.token_hex(4)


def told(error: BaseException, error_id: str, *, texts: bool) -> str:
    """What callers are told of an exception that was not meant for them: its type, and the id of its text in the log.

    Args:
        texts: the text instead: for tests, and hubs that run with debug. That of a typed error is for callers anyway.
    """
    if texts or isinstance(error, RpcError):
        return words_of(error)
    first = f" of {_name_of(_first_of(error))}" if isinstance(error, BaseExceptionGroup) else ""
    return f"{_name_of(error)}{first} (id {error_id})"


def unexpected(method: str, error: BaseException, *, texts: bool, debug: bool) -> RpcError:
    """The error for an exception of a method that is no RpcError meant for callers; ``data.error_id`` is its id.

    Args:
        texts: tell callers its text.
        debug: send them the traceback.
    """
    error_id = new_error_id()
    data: dict[str, Any] = dict(error.data) if isinstance(error, UncarriedError) else {}
    if isinstance(error, UncarriedError) and error.__cause__ is not None:
        words, code = f"{error.message}: ", ErrorCode.SERIALIZATION_ERROR
        error = error.__cause__
    else:
        words, code = f"{method} failed: ", ErrorCode.INTERNAL_ERROR
    data |= {"error_id": error_id, **({"traceback": _traceback(error)} if debug else {})}
    return RpcError(code, words + told(error, error_id, texts=texts), data=data)


def log_failure(method: str, error: BaseException, error_id: str) -> None:
    """Log what a method raised, with its traceback."""
    words = words_of(error)
    _, fault = attempt(lambda: "".join(traceback.format_exception(error)).encode())
    if len(words) < MAX_WORDS and fault is None:
        logger.warning("%s failed (id %s)", method, error_id, exc_info=error)
    else:  # a log would print all of the text, or could not
        trace = "".join(traceback.format_tb(error.__traceback__))
        logger.warning("%s failed (id %s): %s\n%s", method, error_id, words, trace)


def _name_of(error: BaseException) -> str:
    return bounded(type(_as_raised(error)).__name__)


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
