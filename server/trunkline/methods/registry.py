"""The ``@method`` decorator and the registry of what it marked.

A method's signature is its contract: parameters and results are validated from the type hints, and the JSON
schemas of ``rpc.discover`` come from the same hints.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, TypeVar, get_args, get_type_hints

from trunkline.methods.batched_calls import Batch
from trunkline.methods.binding import Binding
from trunkline.methods.context import Context
from trunkline.methods.failures import Outcome
from trunkline_protocol.catalogue import Catalogue, Lane, MethodInfo, MethodLimits, RecoveryKind, RunsAs, pack_of
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_methods import reserved

Function = TypeVar("Function", bound=Callable[..., Any])
Kind = Literal["function", "coroutine", "generator", "async_generator"]

HOOKS: Final = frozenset({"clear_cache"})
"""Methods of pack instances that the hub has called in every executor.

``clear_cache(cache_type)`` empties the caches of that name, or every one for ``all``, and returns what was in them:
``{name: {"entries": 3, "bytes": 1200}}``.
"""

_MARK: Final = "__trunkline_method__"
_HTTP_PATH: Final = re.compile(r"[\w~-][\w.~-]*(/[\w~-][\w.~-]*)*", re.ASCII)


MAX_NAME_CHARS: Final = 200


class RegistrationError(Exception):
    """A method or pack that cannot be registered; the message says which, where and why."""


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
    technique: str | None = None,
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
        max_concurrency: its calls that run at once in one executor; others wait in it. Not for a plain function, which
            runs alone.
        max_calls: its calls in flight in the hub, running and waiting; others are refused with 2002.
        rate: its calls a second, of all callers together; others are refused with 6003.

    Raises:
        RegistrationError: one of these cannot be; the message says what can.

    A plain ``def`` runs on the executor's thread, one at a time; ``async def`` on its loop, many at once;
    generators of both sorts are streams. A parameter annotated :class:`trunkline.Context` gets the call's context,
    one annotated :class:`trunkline.methods.inputs.InputStream` what the caller pushes while an async method runs.
    """
    if not isinstance(name, str):  # written without parentheses, it gets the function
        raise RegistrationError(f'@method needs a name: write @method("space.{_name_of(name)}")')
    if (why := _unfit(name)) is not None:
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
    limits = _limits(name, max_concurrency, max_calls, rate)
    declared = (name, idempotent, routing_key, timeout_ms, max_timeout_ms, http, runs_as, batch)
    options = (*declared, tuple(recovery), limits, technique)

    def mark(function: Function) -> Function:
        inner: object = getattr(function, "__func__", function)  # that of a class method, or a static one
        if isinstance(inner, functools.partial):
            raise RegistrationError(f"{name}: a partial has no signature of its own; write a def that calls it")
        if not callable(inner):
            raise RegistrationError(f"{name}: @method marks a function, not {type(inner).__name__}")
        setattr(inner, _MARK, MethodOptions(*options))
        return function

    return mark


def _limits(name: str, max_concurrency: int | None, max_calls: int | None, rate: float | None) -> MethodLimits | None:
    """The limits that a method declares, or None.

    Raises:
        RegistrationError: one of them is not above zero.
    """
    given = {"max_concurrency": max_concurrency, "max_calls": max_calls, "rate": rate}
    for option, number in given.items():
        if number is not None and not 0 < number < math.inf:
            raise RegistrationError(f"{name}: {option}={number!r} is not above zero; leave it out for no limit")
    return None if given == dict.fromkeys(given) else MethodLimits(max_concurrency, max_calls, rate)


def _name_of(function: object) -> str:
    return str(getattr(function, "__name__", "name"))


def _unfit(name: str) -> str | None:
    """Why a method cannot have this name, in words."""
    if not name or len(name) > MAX_NAME_CHARS:
        return f"a name has 1 to {MAX_NAME_CHARS} characters"
    if not name.isprintable() or " " in name:
        return "a name has no spaces and no control characters"
    return reserved(name)


@dataclass(frozen=True, slots=True)
class BoundMethod:
    """A registered method, ready to be called."""

    info: MethodInfo
    function: Callable[..., Any]
    kind: Kind
    binding: Binding
    batch: Batch | None = None


@dataclass(slots=True)
class Module:
    """A module whose methods are registered: their names, and the instances they are methods of."""

    pack: str
    methods: list[str]
    instances: list[Any]


class Registry:
    """Methods by name, and the pack instances that have to load before they work."""

    def __init__(self) -> None:
        self.methods: dict[str, BoundMethod] = {}
        self.instances: list[Any] = []
        self.packs: list[str] = []
        self._at_path: dict[str, str] = {}

    def add_module(self, module: ModuleType) -> Module:
        """Register everything the module marks: functions, and classes with marked methods.

        Classes are instantiated without arguments; their ``load(settings)``, where they have one, runs in
        :meth:`load`.

        Raises:
            RegistrationError: nothing is marked, or a name is taken. Nothing of the module is registered then.
        """
        pack = pack_of(module.__name__)
        methods, instances = len(self.methods), len(self.instances)
        self.packs.append(pack)
        try:
            self._add_marked(module, pack)
        except BaseException:
            self.remove(Module(pack, list(self.methods)[methods:], self.instances[instances:]))
            raise
        return Module(pack, list(self.methods)[methods:], self.instances[instances:])

    def remove(self, module: Module) -> None:
        """Unregister the methods of a module."""
        for name in module.methods:
            del self._at_path[self.methods.pop(name).info.http_path]
        self.instances = [each for each in self.instances if not any(each is other for other in module.instances)]
        self.packs.remove(module.pack)

    def _add_marked(self, module: ModuleType, pack: str) -> None:
        classes, found = [], 0
        for value in list({id(value): value for value in vars(module).values()}.values()):
            if inspect.isclass(value):
                if value.__module__.startswith(module.__name__) and _marked(value):
                    classes.append(value)
            elif isinstance(getattr(value, _MARK, None), MethodOptions):
                self._add(value if inspect.isroutine(value) else value.__call__, getattr(value, _MARK), pack)
                found += 1
        for cls in classes:
            if not any(other is not cls and issubclass(other, cls) for other in classes):  # else a base of others
                self._add_class(cls, pack)
                found += 1
        if not found:
            raise RegistrationError(f"module {module.__name__} has no function marked with @method")

    def _add_class(self, cls: type[Any], pack: str) -> None:
        needed = _needed_arguments(cls)
        if needed:
            raise RegistrationError(
                f"class {cls.__name__} is made without arguments, but takes {', '.join(needed)}; give "
                "them defaults, or read them from the settings in load(self, settings)"
            )
        instance = cls()
        self.instances.append(instance)
        for name, options in _marked(cls).items():
            self._add(getattr(instance, name), options, pack)

    def _add(self, function: Callable[..., Any], options: MethodOptions, pack: str) -> None:
        try:
            self._add_one(function, options, pack)
        except (RegistrationError, TypeError) as error:
            raise RegistrationError(f"{error} ({_place_of(function)})") from error

    def _add_one(self, function: Callable[..., Any], options: MethodOptions, pack: str) -> None:
        if (other := self.methods.get(options.name)) is not None:
            raise RegistrationError(
                f"method {options.name} is defined twice: here, and before in {_place_of(other.function)}; a base "
                "class with several subclasses cannot have methods, whose name each of them would have"
            )
        kind = kind_of(function)
        streaming = kind in ("generator", "async_generator")
        if streaming and options.batch is not None:
            raise RegistrationError(f"{options.name}: a stream is one call's own; leave out batch=, or return a list")
        at_once = options.limits is not None and options.limits.max_concurrency is not None
        if at_once and (kind == "function" or options.batch is not None):
            raise RegistrationError(
                f"{options.name}: max_concurrency is for what runs many at once; a plain function runs alone, and a "
                "batch has max_items"
            )
        binding = Binding(function, options.name, streaming=streaming, batched=options.batch is not None)
        names = [parameter.name for parameter in binding.parameters]
        if options.routing_key is not None and options.routing_key not in names:
            raise RegistrationError(f"{options.name}: routing key {options.routing_key!r} is not one of its parameters")
        if options.technique is not None and options.technique not in names:
            raise RegistrationError(f"{options.name}: technique={options.technique!r} is not one of its parameters")
        if binding.input_name is not None and kind in ("function", "generator"):
            raise RegistrationError(
                f"{options.name}: a plain function would hold the thread while it waits for {binding.input_name}; "
                "make it async def"
            )
        info = MethodInfo(
            name=options.name,
            summary=(inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " "),
            pack=pack,
            streaming=streaming,
            lane="loop" if options.batch is not None else lane_of(kind),
            idempotent=options.idempotent,
            routing_key=options.routing_key,
            timeout_ms=options.timeout_ms,
            max_timeout_ms=options.max_timeout_ms,
            parameters=binding.parameters,
            result=binding.result_schema,
            chunk=binding.chunk_schema,
            input=None if binding.items is None else binding.items.schema,
            http=options.http,
            runs_as=options.runs_as,
            recovery=list(options.recovery),
            limits=options.limits,
            technique=options.technique,
        )
        holder = self._at_path.setdefault(info.http_path, options.name)
        if holder != options.name:
            raise RegistrationError(
                f"methods {holder} and {options.name} are both at /api/v1/{info.http_path}; "
                "give one of them another http="
            )
        self.methods[options.name] = BoundMethod(info, function, kind, binding, options.batch)

    async def load(self, settings: Mapping[str, Any], context: Context | None = None) -> None:
        """Run the load step of each pack instance (:func:`load_instance`), in order of registration."""
        for instance in self.instances:
            await load_instance(instance, settings, context)

    async def release(self, released: Callable[[str], bool]) -> None:
        """Run the release step of each pack instance that has one: other executors get these routing keys.

        ``async def release(self, released)`` flushes and lets go of everything whose routing key is released; no call
        with such a key runs meanwhile, and the next one finds it as if for the first time.

        Args:
            released: whether a routing key is.

        Raises:
            BaseException: the first that an instance raised. The others were released all the same.
        """
        failure: BaseException | None = None
        for instance in self.instances:
            release = getattr(instance, "release", None)
            if release is not None:
                try:
                    await release(released)
                except BaseException as error:
                    failure = failure or error
        if failure is not None:
            raise failure

    async def broadcast(self, hook: str, params: Mapping[str, Any]) -> list[Any]:
        """Call a hook of each pack instance that has it, one after the other, and return what they return.

        Args:
            hook: one of :data:`HOOKS`, sync or async.
            params: its arguments, by name.

        Raises:
            BaseException: the first that an instance raised; the others were called all the same.
        """
        if hook not in HOOKS:
            raise RpcError(ErrorCode.METHOD_NOT_FOUND, f"packs have no hook {hook!r:.80}")
        said, failure = [], None
        for instance in self.instances:
            if (function := getattr(instance, hook, None)) is not None:
                try:
                    outcome = function(**params)
                    said.append(await outcome if inspect.isawaitable(outcome) else outcome)
                except BaseException as error:
                    failure = failure or error
        if failure is not None:
            raise failure
        return said

    async def close(self) -> BaseException | None:
        """Run ``close`` of each pack instance that has one, sync or async; returns the first that one raised."""
        failure: BaseException | None = None
        for instance in self.instances:
            close = getattr(instance, "close", None)
            try:
                outcome = close() if close is not None else None
                if inspect.isawaitable(outcome):
                    await outcome
            except BaseException as raised:  # the others are closed all the same
                failure = failure or raised
        return failure

    def catalogue(self) -> Catalogue:
        """The registered methods, as data."""
        return Catalogue([bound.info for bound in self.methods.values()], list(self.packs))


def _marked(cls: type[Any]) -> dict[str, MethodOptions]:
    """The marked methods of a class, class methods and static ones included, by attribute."""
    found = {name: getattr(getattr(cls, name, None), _MARK, None) for name in dir(cls)}
    return {name: options for name, options in found.items() if isinstance(options, MethodOptions)}


def _needed_arguments(cls: type[Any]) -> list[str]:
    try:
        parameters = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):  # made in C: the call will tell
        return []
    return [
        each.name
        for each in parameters
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]


def _place_of(function: Callable[..., Any]) -> str:
    """File and line of a function, for people; its name where it has none."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}" if code is not None else _name_of(function)


async def load_instance(instance: Any, settings: Mapping[str, Any], context: Context | None = None) -> None:
    """Run the load step of one pack instance, if it has one.

    Args:
        context: the executor's own, for a parameter annotated :class:`Context`.
    """
    load = getattr(instance, "load", None)
    if load is not None:
        hints = Outcome.of(get_type_hints, load).result or {}
        wants = {name: context for name, hint in hints.items() if hint is Context and name != "return"}
        outcome = load(settings, **wants)
        if inspect.isawaitable(outcome):
            await outcome


def kind_of(function: Callable[..., Any]) -> Kind:
    """The kind of a function, by which it is run."""
    if inspect.isasyncgenfunction(function):
        return "async_generator"
    if inspect.iscoroutinefunction(function):
        return "coroutine"
    if inspect.isgeneratorfunction(function):
        return "generator"
    return "function"


def lane_of(kind: Kind) -> Lane:
    """The lane of a kind. A plain generator's steps run on the thread, too, which is free between them."""
    return "thread" if kind == "function" else "loop"
