"""Techniques of ``rag.*``: how a module declares one, and the table of those that an executor has.

A technique is an async generator that yields passages, best first::

    class NewestParams(BaseModel):
        member: str = "date"

    @technique("newest")
    async def newest(query: str, params: NewestParams, retrieval: Retrieval) -> AsyncIterator[Passage]:
        found = await retrieval.search(query, 50)
        for passage in sorted(found, key=lambda each: str(each.metadata.get(params.member)), reverse=True):
            yield passage
"""

from __future__ import annotations

import inspect
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final, Literal, Protocol, TypeVar, get_args, get_type_hints

import msgspec
from pydantic import BaseModel

from trunkline.methods.declaration import RegistrationError, unfit
from trunkline.methods.marks import keep_mark, place_of
from trunkline.methods.user_errors import bounded, log_failure, new_error_id, told
from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError

MARK: Final = "__trunkline_technique__"
"""The attribute that marks a function, with its :class:`Technique`."""

Need = Literal["llm", "cross_encoder"]
"""What a technique cannot do without: a language model, a cross-encoder."""


@dataclass(frozen=True, slots=True)
class Passage:
    """An item of a collection that was found; ``score`` is what the technique ranks by.

    Attributes:
        dense: the cosine to the query, where the search told it.
        lexical: the BM25 of the query's words, where the search told it.
    """

    id: str
    score: float
    text: str
    metadata: dict[str, Any] = field(default_factory=dict)
    dense: float | None = None
    lexical: float | None = None


class Retrieval(Protocol):
    """What a technique asks for. Each search is in the collection of the call, by its filter, with its rights."""

    @property
    def top_k(self) -> int:
        """The passages that the caller wants."""

    async def search(self, text: str, count: int) -> list[Passage]:
        """The passages nearest to a text in meaning."""

    async def hybrid(
        self, text: str, count: int, *, fusion: str = "convex", weight: float | None = None
    ) -> list[Passage]:
        """The passages nearest in meaning and words, with both scores."""

    async def lexical(self, text: str, count: int) -> list[Passage]:
        """The passages that have the words of a text."""

    async def complete(self, instructions: str, text: str, max_tokens: int = 256) -> str:
        """What the language model answers. For techniques with ``needs=("llm",)``."""

    async def cross_scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query, by the cross-encoder. For ``needs=("cross_encoder",)``."""

    def note(self, name: str, value: Any) -> None:
        """Put any JSON into ``metadata.technique`` of the result, under this name."""


Function = Callable[[str, Any, Retrieval], AsyncIterator[Passage]]
Declared = TypeVar("Declared", bound=Callable[..., AsyncIterator[Passage]])


@dataclass(frozen=True, slots=True)
class Technique:
    """A declared technique.

    Attributes:
        params: the model of what it takes in ``technique_params``.
    """

    name: str
    function: Function
    params: type[BaseModel]
    needs: frozenset[Need] = frozenset()

    async def passages(self, query: str, params: BaseModel, retrieval: Retrieval) -> AsyncGenerator[Passage, None]:
        """What it yields, each id once.

        Raises:
            RpcError: that of a search; 3003, it raised anything else, or yielded what is no passage.
        """
        seen: set[str] = set()
        try:
            found = self.function(query, params, retrieval)
            async with aclosing(found) as source:  # type: ignore[type-var]  # the decorator takes generators alone
                async for passage in source:
                    _check(passage)
                    if passage.id not in seen:
                        seen.add(passage.id)
                        yield passage
        except (RpcError, GeneratorExit):
            raise
        except BaseException as error:
            if _is_own_cancel(error):
                raise
            error_id = new_error_id()
            log_failure(f"technique {self.name}", error, error_id)
            words = bounded(f"technique {self.name} failed: {told(error, error_id, texts=False)}")
            raise RpcError(ErrorCode.PIPELINE_EXECUTION_ERROR, words, data={"error_id": error_id}) from error


def technique(name: str, *, needs: Iterable[Need] = ()) -> Callable[[Declared], Declared]:
    """Declare a technique of ``rag.execute``, ``rag.stream``, ``rag.retrieve`` and ``pipeline.initialize``.

    Args:
        name: what callers give as ``technique``.
        needs: ``llm``, ``cross_encoder``: where the hub has none, the technique is refused with 4001.

    Raises:
        RegistrationError: the function is no async generator of three parameters, the second of which is annotated
            with a pydantic model.
    """
    if not isinstance(name, str) or (why := unfit(name)) is not None:
        raise RegistrationError(f"@technique({name!r:.200}): {'write a name' if not isinstance(name, str) else why}")
    if wrong := [each for each in needs if each not in get_args(Need)]:
        raise RegistrationError(f"technique {name}: needs={wrong[0]!r:.80} is none of {', '.join(get_args(Need))}")

    def mark(function: Declared) -> Declared:
        setattr(function, MARK, Technique(name, function, _params_of(name, function), frozenset(needs)))
        keep_mark(function, f"technique {name}")
        return function

    return mark


def _params_of(name: str, function: Callable[..., Any]) -> type[BaseModel]:
    shape = "write async def name(query: str, params: YourModel, retrieval: Retrieval) with yield"
    if not inspect.isasyncgenfunction(function):
        raise RegistrationError(f"technique {name}: is no async generator; {shape} ({place_of(function)})")
    names = [*inspect.signature(function).parameters]
    if len(names) != 3:
        raise RegistrationError(f"technique {name}: takes {len(names)} parameters; {shape} ({place_of(function)})")
    try:
        model = get_type_hints(function).get(names[1])
    except NameError as error:
        raise RegistrationError(f"technique {name}: {error}; {shape} ({place_of(function)})") from error
    if not (inspect.isclass(model) and issubclass(model, BaseModel)):
        raise RegistrationError(f"technique {name}: {names[1]} is no pydantic model; {shape} ({place_of(function)})")
    return model


def declared(function: Callable[..., Any]) -> Technique:
    """The technique that a function was declared as."""
    found: Technique = getattr(function, MARK)
    return found


class Techniques(Mapping[str, Technique]):
    """The techniques of an executor's modules, by name."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, Technique]] = {}

    def __getitem__(self, name: str) -> Technique:
        for each in self._of.values():
            if name in each:
                return each[name]
        raise KeyError(name)

    def __iter__(self) -> Any:
        return (name for each in self._of.values() for name in each)

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    def add_module(self, module: ModuleType) -> list[str]:
        """Take the techniques that a module has as globals; returns their names.

        Raises:
            RegistrationError: another function has that name already. Nothing of the module is taken then.
        """
        found: dict[str, Technique] = {}
        for value in vars(module).values():
            if not inspect.isfunction(value) or not hasattr(value, MARK):
                continue
            new = declared(value)
            other = self.get(new.name, found.get(new.name))
            if other is not None and other.function is not new.function:
                raise RegistrationError(
                    f"technique {new.name} is defined twice: in {place_of(new.function)}, and before in "
                    f"{place_of(other.function)}"
                )
            if other is None:
                found[new.name] = new
        if found:
            self._of[module.__name__] = found
        return [*found]

    def remove_module(self, module: str) -> None:
        """Forget the techniques of a module."""
        self._of.pop(module, None)


def told_with(techniques: Techniques, info: MethodInfo) -> MethodInfo:
    """What is told of a method that takes a technique: the names that there are, and the params of all of them.

    Only a parameter whose schema lists names (``enum``) is told anew, and of ``technique_params`` what has properties.
    """
    if info.technique is None or not techniques:
        return info
    members = {name: schema for each in techniques.values() for name, schema in _members(each).items()}
    parameters = []
    for each in info.parameters:
        schema = each.schema
        if each.name in (info.technique, "fallback"):
            schema = _replaced(schema, "enum", sorted(techniques))
        elif each.name == "technique_params":
            schema = _replaced(schema, "properties", members)
        parameters.append(msgspec.structs.replace(each, schema=schema))
    return msgspec.structs.replace(info, parameters=parameters)


def _members(technique: Technique) -> dict[str, Any]:
    """The JSON schema of each of a technique's params; of models within it, that they are objects."""
    properties: dict[str, Any] = technique.params.model_json_schema().get("properties", {})
    return {name: {} if "$ref" in str(schema) else schema for name, schema in properties.items()}


def _replaced(schema: Any, keyword: str, value: Any) -> Any:
    """A schema with another value of a keyword, in its alternatives, too; properties are added."""
    if not isinstance(schema, dict):
        return schema
    told = dict(schema)
    if keyword in told:
        told[keyword] = told[keyword] | value if isinstance(value, dict) else value
    if "anyOf" in told:
        told["anyOf"] = [_replaced(each, keyword, value) for each in told["anyOf"]]
    return told


def _check(passage: object) -> None:
    """Raise TypeError or ValueError where a technique yields what is no passage, or one that cannot be ranked."""
    if not isinstance(passage, Passage):
        raise TypeError(f"it yielded a {type(passage).__name__}, no Passage")
    if not isinstance(passage.score, (int, float)) or not math.isfinite(passage.score):
        raise ValueError("it yielded a passage whose score is no finite number")


def _is_own_cancel(error: BaseException) -> bool:
    """Whether this is the cancel of the call, and not a CancelledError that the technique raised of itself."""
    import asyncio

    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
