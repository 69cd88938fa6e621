"""The methods that an executor serves, as data for the router, the pool and ``rpc.discover``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, Literal

import msgspec

from trunkline_protocol.errors import RpcError
from trunkline_protocol.json_schema import Schema

RunsAs = Literal["caller", "method"]
"""Whose rights count for the calls a method makes: those of the outermost caller, or the method's own."""

RecoveryKind = Literal["retry", "restart_worker"]
"""What the hub does by itself when a method fails: run the call again, or first replace the executor's process."""

OpenAIKind = Literal["chat"]
"""As what OpenAI clients may call a method, as the model of its name."""

Lane = Literal["thread", "loop"]
"""Which slots a method takes: plain functions run one at a time on a thread; coroutines and streams many at once."""

Kind = Literal["function", "coroutine", "generator", "async_generator"]
"""What a method is in Python, by which it is run."""

CLIENT_PACK: Final = "client"
VECTORS_PACK: Final = "vectors"
"""The pack that keeps collections: the routing keys of its methods are names of collections."""

"""What stands for the pack in the entries of methods that clients serve."""


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a method: its JSON Schema, and whether it must be given."""

    name: str
    schema: Schema
    required: bool


class MethodLimits(msgspec.Struct, frozen=True):
    """What a method declares to bound its calls; None for no limit of its own.

    Attributes:
        max_concurrency: calls that run at once in one executor; others wait there, without a slot.
        max_calls: calls in flight in the hub; others are refused.
        rate: calls a second, in the hub; others are refused.
        per_tenant: whether ``max_calls`` and ``rate`` are of each tenant, instead of all together.
    """

    max_concurrency: int | None = None
    max_calls: int | None = None
    rate: float | None = None
    per_tenant: bool = False


class BatchLimits(msgspec.Struct, frozen=True):
    """How the calls of a batched method are gathered: so many at most, of which the first waits so long at most."""

    max_items: int
    max_wait_ms: float


class DeclaredError(msgspec.Struct, frozen=True):
    """An error that a method raises of itself: its code, and the JSON Schema of its own members of ``error.data``."""

    code: int
    data: Schema | None = None


class MethodInfo(msgspec.Struct, frozen=True):
    """One method of the catalogue.

    Attributes:
        idempotent: running it twice is the same as once, so it may be run again after a crash.
        routing_key: name of the parameter whose value decides which executor owns the call.
        technique: name of the parameter that names a technique, by which groups of executors may be chosen.
        timeout_ms: default deadline (calls) or idle limit (streams), in milliseconds; None = the hub's.
        max_timeout_ms: the longest deadline a caller may ask for; None = no limit of its own.
        chunk: JSON Schema of what it streams; None = it does not.
        chunks: JSON Schema of the data by chunk type; None = chunks of any type may come.
        errors: those that it declares beside those that every call may end with.
        input: JSON Schema of the items that callers push to it (``stream.push``); None = it takes none.
        http: its path under ``/api/v1/``; None = its name, slashes for dots.
        runs_as: with whose rights it calls other methods and publishes.
        recovery: what the hub does by itself when a call fails.
        limits: of its calls; None = the hub's alone.
        kind: of the function itself, whatever its lane; None = not known, as where a client serves it.
        batch: how its calls are gathered; None = they are not.
        open: params may have members that ``parameters`` does not name.
        openai: as what OpenAI clients may call it; None = they cannot.
    """

    name: str
    summary: str = ""
    pack: str = ""
    streaming: bool = False
    lane: Lane = "loop"
    idempotent: bool = False
    routing_key: str | None = None
    timeout_ms: int | None = None
    max_timeout_ms: int | None = None
    parameters: list[Parameter] = []
    result: Schema = {}
    chunk: Schema | None = None
    input: Schema | None = None
    http: str | None = None
    runs_as: RunsAs = "caller"
    recovery: list[RecoveryKind] = []
    limits: MethodLimits | None = None
    technique: str | None = None
    kind: Kind | None = None
    batch: BatchLimits | None = None
    chunks: dict[str, Schema] | None = None
    errors: list[DeclaredError] = []
    open: bool = False
    openai: OpenAIKind | None = None

    @property
    def http_path(self) -> str:
        """The path of the method under ``/api/v1/``."""
        return self.http if self.http is not None else self.name.replace(".", "/")


class TopicInfo(msgspec.Struct, frozen=True):
    """What a module declares of a topic, or of all topics that fit a pattern.

    Attributes:
        data: JSON Schema of what events carry.
    """

    pattern: str
    summary: str = ""
    data: Schema = {}
    pack: str = ""

    def contradicts(self, other: TopicInfo | None) -> str | None:
        """How the declaration of another module differs, in words; None where it does not."""
        if other is None or (self.summary, self.data) == (other.summary, other.data):
            return None
        whose = "here and before" if other.pack == self.pack else f"in {self.pack} and in {other.pack}"
        return f"events of {self.pattern} are declared differently {whose}: declare them once, and import that class"


def pack_of(module: str) -> str:
    """The name of the pack that a module's methods belong to, from the module's import path."""
    return module.removeprefix("trunkline.methods.")


class ModuleFailure(msgspec.Struct, frozen=True):
    """A module of methods that could not be loaded.

    Attributes:
        module: its import path.
        code: of the error that its methods are answered with; never a retryable one.
        message: why, in words, for who runs the hub.
        told: why, for callers: what its code raised by its type only, with the id under which the log has the rest.
        methods: what it would serve, as far as that is known: nothing where the import failed already.
        files: those of its own that the error came through.
    """

    module: str
    code: int
    message: str
    methods: list[str] = []
    files: list[str] = []
    told: str = ""

    @property
    def words(self) -> str:
        """The module and why it could not be loaded."""
        return f"module {self.module} could not be loaded: {self.message}"

    @property
    def told_words(self) -> str:
        """The same for callers."""
        return f"module {self.module} could not be loaded: {self.told or self.message}"


class Catalogue(msgspec.Struct, frozen=True):
    """Everything one executor serves, sent with READY; and ``failed``, what it was to serve and does not.

    Attributes:
        sources: the files of its code that are not installed packages, with their times of change in nanoseconds.
    """

    methods: list[MethodInfo]
    packs: list[str] = []
    details: dict[str, Any] = {}
    failed: list[ModuleFailure] = []
    sources: dict[str, int] = {}
    topics: list[TopicInfo] = []


def not_loaded(method: str, failed: Collection[ModuleFailure], *, alone: bool) -> RpcError | None:
    """The error for a method that is not served because a module could not be loaded; None where that is not why.

    Args:
        alone: nothing else is served, so that every name may be one of theirs.

    Returns:
        ``data.modules`` has the modules; ``data.known`` says whether the name is known to be theirs.
    """
    owners = [failure for failure in failed if method in failure.methods]
    possible = owners or [failure for failure in failed if alone or not failure.methods]
    if not possible:
        return None
    words = "; ".join(failure.told_words for failure in possible)
    data = {"modules": [failure.module for failure in possible], "known": bool(owners)}
    return RpcError(possible[0].code, f"{method:.200} is not served: {words}", data=data)
