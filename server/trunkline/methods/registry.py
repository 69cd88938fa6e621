"""The registry of what ``@method`` marked.

A method's signature is its contract: parameters and results are validated from the type hints, and the JSON
schemas of ``rpc.discover`` come from the same hints.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final, get_type_hints

from trunkline.methods.binding import Binding
from trunkline.methods.chat_types import check_chat
from trunkline.methods.context import Context
from trunkline.methods.declaration import Batch, MethodOptions, RegistrationError
from trunkline.methods.event_types import declared_topics
from trunkline.methods.marks import MARK, hidden_in, marked_by, nothing_marked, place_of
from trunkline.methods.techniques import Techniques, told_with
from trunkline.methods.user_errors import Outcome
from trunkline_protocol.catalogue import BatchLimits, Catalogue, Kind, Lane, MethodInfo, TopicInfo, pack_of
from trunkline_protocol.errors import ErrorCode, RpcError

HOOKS: Final = frozenset({"clear_cache", "cache_names"})
"""Methods of pack instances that the hub has called in every executor.

``clear_cache(cache_type)`` empties the caches of that name, or every one for ``all``, and returns what was in them:
``{name: {"entries": 3, "bytes": 1200}}``. ``cache_names()`` returns the names of its caches.
"""


STREAMS: Final[frozenset[Kind]] = frozenset({"generator", "async_generator"})


@dataclass(frozen=True, slots=True)
class BoundMethod:
    """A registered method, ready to be called."""

    info: MethodInfo
    function: Callable[..., Any]
    kind: Kind
    binding: Binding
    batch: Batch | None = None
    is_direct: bool = field(init=False)
    """Whether it is a coroutine that gets its params and nothing else, at once, and for one call."""

    def __post_init__(self) -> None:
        given = self.batch, self.info.limits, self.binding.context_name, self.binding.input_name
        object.__setattr__(self, "is_direct", self.kind == "coroutine" and given == (None, None, None, None))


@dataclass(slots=True)
class Module:
    """A module whose methods are registered: their names, and the instances they are methods of."""

    pack: str
    methods: list[str]
    instances: list[Any]
    name: str = ""


class Registry:
    """Methods by name, and the pack instances that have to load before they work."""

    def __init__(self) -> None:
        self.methods: dict[str, BoundMethod] = {}
        self.instances: list[Any] = []
        self.packs: list[str] = []
        self.techniques = Techniques()
        self._at_path: dict[str, str] = {}
        self._topics: dict[str, dict[str, TopicInfo]] = {}

    def add_module(self, module: ModuleType) -> Module:
        """Register everything the module marks: functions, classes with marked methods, techniques, types of events.

        Classes are instantiated without arguments; their ``load(settings)``, where they have one, runs in
        :meth:`load`.

        Raises:
            RegistrationError: nothing is marked, or a name is taken, or another module declares the events of a
                pattern differently. Nothing of the module is registered then.
        """
        pack = pack_of(module.__name__)
        methods, instances = len(self.methods), len(self.instances)
        self.packs.append(pack)
        try:
            self._add_topics(module, pack)
            self._add_marked(module, pack)
        except BaseException:
            self.remove(Module(pack, list(self.methods)[methods:], self.instances[instances:], module.__name__))
            raise
        return Module(pack, list(self.methods)[methods:], self.instances[instances:], module.__name__)

    def remove(self, module: Module) -> None:
        """Unregister the methods of a module."""
        for name in module.methods:
            del self._at_path[self.methods.pop(name).info.http_path]
        self.instances = [each for each in self.instances if not any(each is other for other in module.instances)]
        self.packs.remove(module.pack)
        self._topics.pop(module.pack, None)
        self.techniques.remove_module(module.name)

    def _add_topics(self, module: ModuleType, pack: str) -> None:
        topics = declared_topics(module, pack)
        for others in self._topics.values():
            for pattern in topics.keys() & others:
                if (why := topics[pattern].contradicts(others[pattern])) is not None:
                    raise RegistrationError(why)
        self._topics[pack] = topics

    def put(self, function: Callable[..., Any], options: MethodOptions, pack: str) -> None:
        """Register one function, in the place of what has its name.

        Raises:
            RegistrationError: it cannot be served. What had its name before is still registered then.
        """
        before = self.methods.pop(options.name, None)
        if before is not None:
            del self._at_path[before.info.http_path]
        try:
            self._add(function, options, pack)
        except RegistrationError:
            if before is not None:
                self.methods[options.name] = before
                self._at_path[before.info.http_path] = options.name
            raise

    def _add_marked(self, module: ModuleType, pack: str) -> None:
        techniques = self.techniques.add_module(module)
        classes, found = [], len(techniques)
        hidden: dict[str, str] = {}
        for value in list({id(value): value for value in vars(module).values()}.values()):
            if inspect.isclass(value):
                if value.__module__.startswith(module.__name__):
                    hidden |= hidden_in(value)
                    classes += [value] if _marked(value) else []
            elif isinstance(getattr(value, MARK, None), MethodOptions):
                self._add(value if inspect.isroutine(value) else value.__call__, getattr(value, MARK), pack)
                found += 1
        for cls in classes:
            if not any(other is not cls and issubclass(other, cls) for other in classes):  # else a base of others
                self._add_class(cls, pack)
                found += 1
        kept = {*self.methods, *(f"technique {name}" for name in self.techniques)}
        if left := [words for name, words in (marked_by(module) | hidden).items() if name not in kept]:
            raise RegistrationError("; ".join(left))
        if not found and not self._topics[pack]:
            raise RegistrationError(nothing_marked(module))

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
            raise RegistrationError(f"{error} ({place_of(function)})") from error

    def _add_one(self, function: Callable[..., Any], options: MethodOptions, pack: str) -> None:
        if (other := self.methods.get(options.name)) is not None:
            raise RegistrationError(
                f"method {options.name} is defined twice: here, and before in {place_of(other.function)}; a base "
                "class with several subclasses cannot have methods, whose name each of them would have"
            )
        kind = kind_of(function)
        _check_kind(options, kind)
        batched = options.batch is not None
        streaming = kind in STREAMS
        binding = Binding(function, options.name, streaming=streaming, batched=batched, summary=options.result)
        _check_parameters(options, binding, kind)
        said = binding.chunk_schema if streaming else binding.result_schema
        check_chat(options, binding.parameters, said, streaming=streaming)
        info = _info_of(function, options, kind, binding, pack)
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
            await load_instance(instance, settings, context, self.techniques)

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
        """The registered methods and topics, as data."""
        topics = {pattern: topic for each in self._topics.values() for pattern, topic in each.items()}
        infos = [told_with(self.techniques, bound.info) for bound in self.methods.values()]
        return Catalogue(infos, list(self.packs), topics=list(topics.values()))


def _marked(cls: type[Any]) -> dict[str, MethodOptions]:
    """The marked methods of a class, class methods and static ones included, by attribute."""
    found = {name: getattr(getattr(cls, name, None), MARK, None) for name in dir(cls)}
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


async def load_instance(
    instance: Any, settings: Mapping[str, Any], context: Context | None = None, techniques: Techniques | None = None
) -> None:
    """Run the load step of one pack instance, if it has one.

    Args:
        context: the executor's own, for a parameter annotated :class:`Context`.
        techniques: those of the executor, for a parameter annotated :class:`Techniques`.
    """
    load = getattr(instance, "load", None)
    if load is not None:
        hints = Outcome.of(get_type_hints, load).result or {}
        given = {Context: context, Techniques: techniques}
        wants = {name: given[hint] for name, hint in hints.items() if name != "return" and _is_given(hint)}
        try:
            inspect.signature(load).bind(settings, **wants)
        except TypeError as error:
            raise RegistrationError(
                f"class {type(instance).__name__}: load cannot be called: {error}; write def load(self, settings), "
                f"with ctx: Context beside it where it needs one ({place_of(load)})"
            ) from error
        outcome = load(settings, **wants)
        if inspect.isawaitable(outcome):
            await outcome


def _is_given(hint: object) -> bool:
    return hint is Context or hint is Techniques


def _check_kind(options: MethodOptions, kind: Kind) -> None:
    """Raise RegistrationError where a function of this kind cannot have these options."""
    name, streaming = options.name, kind in STREAMS
    if streaming and options.batch is not None:
        raise RegistrationError(f"{name}: a stream is one call's own; leave out batch=, or return a list")
    at_once = options.limits is not None and options.limits.max_concurrency is not None
    if at_once and (kind == "function" or options.batch is not None):
        raise RegistrationError(
            f"{name}: max_concurrency is for what runs many at once; a plain function runs alone, and a batch has "
            "max_items"
        )
    if options.result is not None and not streaming:
        raise RegistrationError(f"{name}: result= is for streams; annotate what the function returns")


def _check_parameters(options: MethodOptions, binding: Binding, kind: Kind) -> None:
    """Raise RegistrationError where an option names a parameter that is none, or a plain function takes input."""
    name, names = options.name, [parameter.name for parameter in binding.parameters]
    if options.routing_key is not None and options.routing_key not in names:
        raise RegistrationError(f"{name}: routing key {options.routing_key!r} is not one of its parameters")
    if options.technique is not None and options.technique not in names:
        raise RegistrationError(f"{name}: technique={options.technique!r} is not one of its parameters")
    if binding.input_name is not None and kind in ("function", "generator"):
        raise RegistrationError(
            f"{name}: a plain function would hold the thread while it waits for {binding.input_name}; make it async def"
        )


def _info_of(
    function: Callable[..., Any], options: MethodOptions, kind: Kind, binding: Binding, pack: str
) -> MethodInfo:
    return MethodInfo(
        name=options.name,
        summary=(inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " "),
        pack=pack,
        streaming=kind in STREAMS,
        lane="loop" if options.batch is not None else lane_of(kind),
        idempotent=options.idempotent,
        routing_key=options.routing_key,
        timeout_ms=options.timeout_ms,
        max_timeout_ms=options.max_timeout_ms,
        parameters=binding.parameters,
        result=binding.result_schema,
        chunk=binding.chunk_schema,
        chunks=binding.chunk_schemas,
        errors=binding.declared_errors(options.errors),
        input=None if binding.items is None else binding.items.schema,
        http=options.http,
        runs_as=options.runs_as,
        recovery=list(options.recovery),
        limits=options.limits,
        technique=options.technique,
        openai=options.openai,
        kind=kind,
        batch=None if options.batch is None else BatchLimits(options.batch.max_items, options.batch.max_wait_ms),
    )


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
