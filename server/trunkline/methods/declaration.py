"""The ``@method`` decorator: what a function declares of itself, and what it may not."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, ParamSpec, TypeVar, get_args

from trunkline.methods.marks import MARK, keep_mark
from trunkline_protocol.catalogue import MethodLimits, OpenAIKind, RecoveryKind, RunsAs
from trunkline_protocol.errors import ErrorCode
from trunkline_protocol.hub_methods import reserved

Function = TypeVar("Function", bound=Callable[..., Any])
Arguments = ParamSpec("Arguments")
Declared = TypeVar("Declared")

MAX_NAME_CHARS: Final = 200
MAX_ITEMS: Final = 4096
MAX_WAIT_MS: Final = 60_000
_HTTP_PATH: Final = re.compile(r"[\w~-][\w.~-]*(/[\w~-][\w.~-]*)*", re.ASCII)


class RegistrationError(Exception):
    """A method or pack that cannot be registered; the message says which, where and why."""


def _takes_its_own(what: str) -> Callable[[Callable[Arguments, Declared]], Callable[Arguments, Declared]]:
    """Makes arguments that a declaration does not take a RegistrationError, which says which one may be meant.

    Args:
        what: is declared, in words.
    """

    def telling(declare: Callable[Arguments, Declared]) -> Callable[Arguments, Declared]:
        signature = inspect.signature(declare)

        @functools.wraps(declare)
        def declared(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Declared:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                wrong = [name for name in kwargs if name not in signature.parameters]
                near = difflib.get_close_matches(wrong[0], signature.parameters, 1) if wrong else []
                hint = f"; write {near[0]}=" if near else ""
                raise RegistrationError(f"{what}: {error}{hint}") from None
            return declare(*args, **kwargs)

        return declared

    return telling


@dataclass(frozen=True, slots=True)
class Batch:
    """How calls of a method are gathered: the argument ``batch`` of :func:`trunkline.method`.

    Args:
        max_items: calls of one batch at most.
        max_wait_ms: how long the first call of a batch may wait for others, in milliseconds. 0: not at all.

    Raises:
        RegistrationError: out of bounds.
    """

    max_items: int = 32
    max_wait_ms: float = 0

    def __post_init__(self) -> None:
        if not isinstance(self.max_items, int) or not 1 <= self.max_items <= MAX_ITEMS:
            raise RegistrationError(f"Batch: max_items={self.max_items!r} is no integer from 1 to {MAX_ITEMS}")
        if not isinstance(self.max_wait_ms, (int, float)) or not 0 <= self.max_wait_ms <= MAX_WAIT_MS:
            raise RegistrationError(f"Batch: max_wait_ms={self.max_wait_ms!r} is no number from 0 to {MAX_WAIT_MS}")


@dataclass(frozen=True, slots=True)
class MethodOptions:
    """The arguments of the decorator."""

    name: str
    idempotent: bool
    routing_key: str | None
    timeout_ms: int | None
    max_timeout_ms: int | None
    http: str | None = None
    runs_as: RunsAs = "caller"
    batch: Batch | None = None
    recovery: tuple[RecoveryKind, ...] = ()
    limits: MethodLimits | None = None
    technique: str | None = None
    result: Any = None
    errors: Mapping[int, Any] = field(default_factory=dict)
    openai: OpenAIKind | None = None


@_takes_its_own("@method")
def method(
    name: str,
    *,
    idempotent: bool = False,
    routing_key: str | None = None,
    timeout_ms: int | None = None,
    max_timeout_ms: int | None = None,
    http: str | None = None,
    runs_as: RunsAs = "caller",
    batch: Batch | None = None,
    recovery: tuple[RecoveryKind, ...] = (),
    max_concurrency: int | None = None,
    max_calls: int | None = None,
    rate: float | None = None,
    per_tenant: bool = False,
    technique: str | None = None,
    result: Any = None,
    errors: Mapping[int, Any] | Mapping[ErrorCode, Any] | None = None,
    openai: OpenAIKind | None = None,
) -> Callable[[Function], Function]:
    """Serve a function, or a method of a class, under ``name``.

    Args:
        name: dotted, for example ``text.upper``. What the hub answers itself, and names that begin with ``rpc.``,
            ``session.``, ``stream.``, ``system.`` or ``$/``, cannot be served.
        idempotent: running it twice is the same as once; only then is it run again after a crash.
        routing_key: a parameter whose value decides which executor owns the call. For methods with state.
        timeout_ms: default deadline in milliseconds (for generators: the longest silence between chunks).
        max_timeout_ms: the longest deadline a caller may ask for.
        http: its path under ``/api/v1/``, for example ``ml/predict/difficulty``; by default the name with slashes for
            dots.
        runs_as: with whose rights it calls other methods, publishes and makes jobs. ``caller``: those of the principal
            of the outermost call. ``method``: its own, for whoever may call it: every method and topic but those
            that take a role. What its params can make it call or publish is then for it to bound.
        batch: calls that come together are one call of the function: each of its parameters is a list with an item of
            each call, and it returns a list of as many results, exceptions for calls that fail among them.
        recovery: what the hub does by itself where a call fails, and may run again. ``retry``: run it again after a
            pause, where the error is retryable. ``restart_worker``: where the method raises WORKER_CRASHED (2001),
            which says that its process is of no use any more, replace that, and run the call again.
        technique: a parameter, a string, that names a technique: calls go to the groups of executors that list it.
        result: of a stream, the type of what ``ctx.set_result`` gets; for others it is the annotation.
        errors: codes that it raises of itself, each with the type of its ``data``; None where that has nothing more.
        openai: ``chat``: OpenAI clients call it as the model of its name, at ``/v1/chat/completions``. It takes
            ``messages: list[ChatMessage]``, and by their names what else of such a request it reads; it yields strings,
            or returns one.
        max_concurrency: its calls that run at once in one executor; others wait in it. Not for a plain function, which
            runs alone.
        max_calls: its calls in flight in the hub, running and waiting; others are refused with 2002.
        rate: its calls a second, of all callers together; others are refused with 6003.
        per_tenant: ``max_calls`` and ``rate`` are of each tenant: one that uses them up leaves those of the others.

    Raises:
        RegistrationError: one of these cannot be; the message says what can.

    A plain ``def`` runs on the executor's thread, one at a time; ``async def`` on its loop, many at once;
    generators of both sorts are streams. A parameter annotated :class:`trunkline.Context` gets the call's context,
    one annotated :class:`trunkline.methods.inputs.InputStream` what the caller pushes while an async method runs.
    """
    if not isinstance(name, str):  # written without parentheses, it gets the function
        raise RegistrationError(f'@method needs a name: write @method("space.{name_of(name)}")')
    _check(name, http, runs_as, recovery)
    if openai is not None and openai not in get_args(OpenAIKind):
        raise RegistrationError(f"{name}: openai={openai!r:.80} is not 'chat'")
    _check_timeouts(name, timeout_ms, max_timeout_ms)
    if batch is not None and not isinstance(batch, Batch):
        raise RegistrationError(f"{name}: batch={batch!r} is no Batch; write batch=Batch(max_items=32)")
    limits, codes = _limits(name, max_concurrency, max_calls, rate, per_tenant), _errors(name, errors)
    options = MethodOptions(
        name, idempotent, routing_key, timeout_ms, max_timeout_ms, http, runs_as, batch,
        tuple(recovery), limits, technique, result, codes, openai,
    )  # fmt: skip
    return functools.partial(_mark, options)


def _check(name: str, http: str | None, runs_as: object, recovery: object) -> None:
    if (why := unfit(name)) is not None:
        raise RegistrationError(f"@method({name!r:.200}): {why}; choose another name")
    if http is not None and not _HTTP_PATH.fullmatch(http):
        raise RegistrationError(
            f"{name}: http={http!r} is no path under /api/v1/; write it as segments of letters, digits and - . _ ~, "
            "joined by slashes, for example ml/predict/difficulty"
        )
    if runs_as not in get_args(RunsAs):
        raise RegistrationError(f"{name}: runs_as={runs_as!r} is neither 'caller' nor 'method'")
    if not isinstance(recovery, (tuple, list)) or not set(recovery) <= set(get_args(RecoveryKind)):
        kinds = ", ".join(map(repr, get_args(RecoveryKind)))
        raise RegistrationError(f"{name}: recovery={recovery!r} is no tuple of {kinds}")


def _check_timeouts(name: str, timeout_ms: object, max_timeout_ms: object) -> None:
    for option, given in (("timeout_ms", timeout_ms), ("max_timeout_ms", max_timeout_ms)):
        if given is not None and (not isinstance(given, int) or given <= 0):
            raise RegistrationError(f"{name}: {option}={given!r} is no number of milliseconds above zero")
    if isinstance(timeout_ms, int) and isinstance(max_timeout_ms, int) and timeout_ms > max_timeout_ms:
        raise RegistrationError(
            f"{name}: timeout_ms={timeout_ms} is above max_timeout_ms={max_timeout_ms}, the longest that may be asked "
            "for; lower the one, or raise the other"
        )


def _mark(options: MethodOptions, function: Function) -> Function:
    inner: object = getattr(function, "__func__", function)  # that of a class method, or a static one
    if isinstance(inner, functools.partial):
        raise RegistrationError(f"{options.name}: a partial has no signature of its own; write a def that calls it")
    if not callable(inner):
        raise RegistrationError(f"{options.name}: @method marks a function, not {type(inner).__name__}")
    try:
        setattr(inner, MARK, options)
    except AttributeError:
        raise RegistrationError(f"{options.name}: {name_of(inner)} is made in C; write a def that calls it") from None
    keep_mark(inner, options.name)
    return function


def _limits(
    name: str, max_concurrency: int | None, max_calls: int | None, rate: float | None, per_tenant: object
) -> MethodLimits | None:
    """The limits that a method declares, or None.

    Raises:
        RegistrationError: one of them is not above zero, or there is none that could be each tenant's.
    """
    if not isinstance(per_tenant, bool) or (per_tenant and max_calls is None and rate is None):
        words = "is for max_calls or rate; give one of them with it, or leave it out"
        raise RegistrationError(f"{name}: per_tenant={per_tenant!r:.100} {words}")
    given = {"max_concurrency": max_concurrency, "max_calls": max_calls, "rate": rate}
    for option, number in given.items():
        if number is not None and not (isinstance(number, (int, float)) and 0 < number < math.inf):
            raise RegistrationError(f"{name}: {option}={number!r} is no number above zero; leave it out for no limit")
    return None if given == dict.fromkeys(given) else MethodLimits(max_concurrency, max_calls, rate, per_tenant)


def _errors(name: str, errors: object) -> dict[int, Any]:
    """The errors that a method declares: code -> the type of its data.

    Raises:
        RegistrationError: this is no such mapping.
    """
    if errors is None:
        return {}
    if not isinstance(errors, Mapping) or not all(isinstance(code, int) for code in errors):
        raise RegistrationError(f"{name}: errors={errors!r:.80} is no mapping; write errors={{404: NotFound}}")
    return {int(code): data for code, data in errors.items()}


def name_of(function: object) -> str:
    """The name of a function as it is written; ``name`` for what has none."""
    return str(getattr(function, "__name__", "name"))


def unfit(name: str) -> str | None:
    """Why a method cannot have this name, in words."""
    if not name or len(name) > MAX_NAME_CHARS:
        return f"a name has 1 to {MAX_NAME_CHARS} characters"
    if not name.isprintable() or " " in name:
        return "a name has no spaces and no control characters"
    return reserved(name)
