"""In which states operations are when a fault meets them: what coverage of a simulation means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from tests.simulation.world import Client, World
from trunkline_protocol.calls import Call

State = tuple[str, str]
"""Kind of an operation, and where it is: ``away`` (on its way to the hub or back), ``waiting``, ``running``,
``streaming``; of a subscription ``open``."""


class _Named(msgspec.Struct):
    """Params of a call that says which work it is."""

    work: str = ""


_named = msgspec.json.Decoder(_Named)


def states_of(world: World, clients: Sequence[Client]) -> Iterator[State]:
    """The states of all operations that are open now, of some clients."""
    if world.hub.process.is_dead:
        return
    places = _places(world)
    for client in clients:
        for begun in client.recorder.open.values():
            if begun.what == "subscribe":
                yield "subscription", "open"
                continue
            kind = f"keyed {begun.what}" if begun.key else str(begun.what)
            if begun.method is not None and begun.method.startswith("served."):
                kind = f"{kind} of a client"
            yield kind, places.get(begun.work or "", "away")


def _places(world: World) -> Mapping[str, str]:
    """Where the calls are that the hub has, by their work."""
    places: dict[str, str] = {}
    for entry in world.hub.parts.sessions.table.entries():
        for call in entry.owner.connection.calls.values():
            work = _named.decode(call.params).work if b'"work"' in call.params else ""
            places[work] = _place(call)
    return places


def _place(call: Call) -> str:
    if call.chunks:
        return "streaming"
    return "waiting" if call.executor is None else "running"
