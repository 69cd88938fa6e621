"""What an executor says it can do, as data. The router, the pool and ``rpc.discover`` read it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

RunsAs = Literal["caller", "method"]
"""Whose rights count for the calls a method makes: those of the outermost caller, or the method's own."""

Lane = Literal["thread", "loop"]
"""Which slots a method takes: plain functions run one at a time on a thread; coroutines and streams many at once."""


class Parameter(msgspec.Struct, frozen=True):
    """One parameter: JSON Schema and whether it must be given."""

    name: str
    schema: dict[str, Any]
    required: bool


class MethodInfo(msgspec.Struct, frozen=True):
    """One method of the catalogue.

    Attributes:
        idempotent: running it twice is the same as once, so it may be run again after a crash.
        routing_key: name of the parameter whose value decides which executor owns the call.
        timeout_ms: default deadline (calls) or idle limit (streams), in milliseconds; None = the hub's.
        max_timeout_ms: the longest deadline a caller may ask for; None = no limit of its own.
        chunk: JSON Schema of what it streams; None = it does not.
        input: JSON Schema of the items that callers push to it (``stream.push``); None = it takes none.
        http: its path under ``/api/v1/``; None = its name, slashes for dots.
        runs_as: with whose rights it calls other methods and publishes.
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
    result: dict[str, Any] = {}
    chunk: dict[str, Any] | None = None
    input: dict[str, Any] | None = None
    http: str | None = None
    runs_as: RunsAs = "caller"

    @property
    def http_path(self) -> str:
        """Where it is under ``/api/v1/``."""
        return self.http if self.http is not None else self.name.replace(".", "/")


class Catalogue(msgspec.Struct, frozen=True):
    """Everything one executor serves, sent with READY."""

    methods: list[MethodInfo]
    packs: list[str] = []
    details: dict[str, Any] = {}
