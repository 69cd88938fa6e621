"""What must not be, beside what the recorder's rules say: what was not given back, and what goes on too long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.faults.recorder.operations import Record
from tests.simulation.world import Client, World
from trunkline.executors.handle import ExecutorHandle
from trunkline.hub.connection import Connection
from trunkline.hub.registrations import Registrations

LATE: Final = 0.05
"""Seconds after its deadline within which the hub has ended a call."""

LONGEST: Final = 8.0
"""Seconds within which every operation has ended: deadlines have more, but for those that are hasty."""


def leftovers(world: World) -> list[str]:
    """Everything that still waits, runs or is kept, in words."""
    parts = world.hub.parts
    found = [
        ("calls in the hub", parts.router.in_flight),
        ("calls that wait for an executor", parts.pool.waiting),
        ("calls that wait for a client", parts.registrations.waiting),
        *_of_callees(parts.registrations),
    ]
    for handle in parts.pool.executors:
        found += _of_executor(handle)
    for entry in parts.sessions.table.entries():
        found += _of_connection(entry.owner.connection)
        found.append(("frames of a session without an acknowledgement", entry.owner.core.unacknowledged))
    for client in world.clients.values():
        if client.name != "last" and not client.is_dead:
            found += _of_client(client)
    return [f"left at the end: {number} {what}" for what, number in found if number]


def overdue(world: World) -> list[str]:
    """What must not be at any time: calls that go on though their deadline has passed, slots that do not add up."""
    if world.hub.process.is_dead:
        return []
    now, parts = world.loop.now, world.hub.parts
    connections = [entry.owner.connection for entry in parts.sessions.table.entries()]
    calls = [call for connection in connections for call in connection.calls.values()]
    late = [call for call in calls if not call.idle_timeout and now > call.deadline + LATE]
    found = [f"{call.method} goes on {now - call.deadline:.2f} s after its deadline" for call in late]
    for handle in parts.pool.executors:
        load = sum(lane.load for name, lane in handle.lanes.items() if name == "loop")
        if handle.state == "ready" and load != len(handle.in_flight) - len(handle.parked):
            found.append(f"{load} slots of {handle.name} are used by {len(handle.in_flight)} calls")
    return found


def slow(record: Record) -> list[str]:
    """Operations that nobody ended before their time was over, though nothing in a run lasts as long as that."""
    sound = record.sound("call", "stream", "input", "publish")
    taken = ((each, each.end.time - each.invoke.time) for each in sound)
    return [f"{each.op} took {seconds:.1f} s, until {each.end.code}" for each, seconds in taken if seconds > LONGEST]


def _of_client(client: Client) -> Iterator[tuple[str, int]]:
    name, session = client.name, client.engine.conversation.session
    yield f"operations of {name}: {list(client.recorder.open)[:3]}", len(client.recorder.open)
    if session is not None:
        yield f"frames of {name} without an acknowledgement", session.core.unacknowledged


def _of_executor(handle: ExecutorHandle) -> Iterator[tuple[str, int]]:
    name = handle.name
    yield f"calls in {name}", len(handle.in_flight)
    yield f"calls parked in {name}", len(handle.parked)
    yield f"calls in {name} whose end is overdue", len(handle.overdue)
    yield f"bytes of params in {name}", handle.params_bytes
    for lane, load in handle.lanes.items():
        yield f"slots of {name}, lane {lane}", load.load


def _of_connection(connection: Connection) -> Iterator[tuple[str, int]]:
    yield "calls of a connection", len(connection.calls)
    yield "streams of a connection", len(connection.streams)
    yield "notifications of a connection", connection.notifications
    yield "bytes in an outbox", connection.outbox.waiting_bytes


def _of_callees(registrations: Registrations) -> Iterator[tuple[str, int]]:
    yield "calls that clients run", len(registrations._running)
    for method in registrations._methods.values():
        for callee in method.callees.values():
            yield f"slots of a callee of {method.info.name}", len(callee.running)
