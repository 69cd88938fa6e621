"""Whatever user code raises, carried to where it is dealt with, and told to its caller as a typed error.

Anything that derives from BaseException may come. Half of it does not survive asyncio: futures refuse StopIteration,
tasks let SystemExit and KeyboardInterrupt out of the loop, and a CancelledError looks like a cancel of whoever awaits.
So what plain functions raise leaves their thread as a value (:class:`Outcome`), and is caught before it reaches a task.
"""

from __future__ import annotations

import logging
import secrets
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final

from trunkline_protocol.errors import ErrorCode, RpcError

MAX_WORDS: Final = 4096
"""Characters of an error's text that its caller gets."""

logger = logging.getLogger("trunkline.methods")


class Outcome:
    """How user code ended: with a result, or an exception. A value, so that neither can upset a future.

    It is taken once and keeps nothing: an exception holds its traceback, that the frames, and these often the outcome,
    a circle that only the collector would free, with whatever large arguments the frames have.

    Attributes:
        result: what was returned; None where something was raised.
        error: what was raised; None where nothing was.
    """

    __slots__ = ("_traceback", "error", "result")

    def __init__(self, result: Any = None, error: BaseException | None = None) -> None:
        self.result = result
        self.error = error
        # As it is now: each raise of the same exception adds to it, and the calls of a batch share one.
        self._traceback = None if error is None else error.__traceback__

    @classmethod
    def of(cls, function: Callable[..., Any], *args: Any) -> Outcome:
        """The outcome of a call."""
        try:
            return cls(function(*args))
        except BaseException as error:
            return cls(None, error)

    @classmethod
    async def awaited(cls, work: Awaitable[Any]) -> Outcome:
        """The outcome of what is awaited; as a task it cannot end the loop."""
        try:
            return cls(await work)
        except BaseException as error:
            return cls(None, error)

    def take(self) -> Any:
        """The result, once.

        Raises:
            BaseException: what was raised.
        """
        result, error, trace = self.result, self.error, self._traceback
        self.result = self.error = self._traceback = None
        if error is None:
            return result
        try:
            raise error.with_traceback(trace)
        finally:
            del error, trace  # its traceback has this frame


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
    printed = Outcome.of(lambda: "".join(traceback.format_exception(error)).encode())
    if len(words) < MAX_WORDS and printed.error is None:
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
    read = Outcome.of(str, error)
    text = read.result
    if read.error is not None:
        text = f"(its text cannot be read: {type(read.error).__name__})"
    return bounded(": ".join(filter(len, (type(error).__name__, "".join([text])))))


def _traceback(error: BaseException) -> list[str]:
    lines = Outcome.of(traceback.format_exception, error).result
    return [bounded(line) for line in lines or ()]
