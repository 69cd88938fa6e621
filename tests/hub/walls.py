"""Trials of one tenant on what another has made: they have to end as those on what nobody has made.

A trial is made twice by ann of ``bolt``: with the names of what ann of ``acme`` has made, and with names of nothing.
The two outcomes may differ in nothing but the names; neither may tell anything of what acme has made, and what acme's
own ann is told of it is the same before and behind.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.hub.tenants import as_one_of, fetched
from tests.support.peer import Peer
from trunkline.testing import MockHub

Names = Mapping[str, str]
"""What was made, by its kind: topics, ids of jobs, methods, ..."""

SECRET: Final = "what acme alone knows"
"""Is in everything that acme makes."""

WITH_INPUT: Final = frozenset({"collections.import"})
"""Methods that take a stream of input."""

VARYING: Final = frozenset(
    {
        "epoch",
        "session",
        "id",
        "seq",
        "time_ms",
        "created_at",
        "started_at",
        "finished_at",
        "published_at",
        "updated_at",
        "asked_at",
        "retry_after_ms",
    }
    | {"idempotency_epoch", "request_id", "timestamp", "uptime_seconds", "time", "error_id", "latency_ms"}
)
"""Members whose values differ between two calls that say the same."""

_ID: Final = re.compile(r"\b[0-9a-f]{32}\b")


@dataclass(frozen=True, slots=True)
class Trial:
    """How a method is tried.

    Attributes:
        params: made of the names of what was made, or would be.
        compared: whether the outcomes have to be the same; not of figures that count every call.
        pending: why it fails for now; empty where it may not.
        door: the only one that it can be made at; None for every one.
    """

    params: Callable[[Names], dict[str, Any]]
    compared: bool = True
    pending: str = ""
    door: str | None = None


Trials = Mapping[str, Trial | tuple[Trial, ...] | str]
"""By method: how it is tried, or why there is nothing to try: what it keeps, or names, is no tenant's."""


async def over_websocket(mock: MockHub, method: str, params: dict[str, Any]) -> Any:
    """The reply that ann of bolt gets, with the chunks before it. Where the method takes input, that ends at once."""
    async with as_one_of(mock, "bolt") as bolt:
        request = await bolt.request(method, params)
        if method in WITH_INPUT:
            await bolt.notify("stream.push", {"request_id": request, "index": 0, "is_final": True})
        reply = await bolt.reply(request)
        return [*bolt.others, reply]


async def over_http(mock: MockHub, method: str, params: dict[str, Any]) -> Any:
    """The same of ``POST /rpc``."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return json.loads(await fetched(mock, "/rpc", "bolt", json.dumps(request)))


DOORS: Final[dict[str, Callable[[MockHub, str, dict[str, Any]], Awaitable[Any]]]] = {
    "websocket": over_websocket,
    "http": over_http,
}


def tried(trials: Trials) -> list[Any]:
    """Each trial at each door, as a parameter of pytest: method, trial, door."""
    found = []
    for method, row in trials.items():
        each = () if isinstance(row, str) else row if isinstance(row, tuple) else (row,)
        for (number, trial), door in itertools.product(enumerate(each, 1), DOORS):
            if trial.door in (None, door):
                marks = [pytest.mark.xfail(reason=trial.pending, strict=True)] if trial.pending else []
                which = f"-{number}" if len(each) > 1 else ""
                found.append(pytest.param(method, trial, door, marks=marks, id=f"{method}{which}-{door}"))
    return found


async def require_apart(
    mock: MockHub, door: str, method: str, trial: Trial, made: Names, told: Callable[[], Awaitable[Any]]
) -> None:
    """Make a trial, and require that it tells and changes nothing.

    Args:
        made: the names of what acme has made.
        told: what acme's own ann is told of all of it.
    """
    before = await told()
    nobodys = {kind: _other(name) for kind, name in made.items()}
    outcomes = []
    for names in (made, nobodys):
        params = trial.params(names)
        outcomes.append(_plain(await DOORS[door](mock, method, params), names, params))
        assert SECRET not in outcomes[-1], f"{method} tells what acme has made"
        leaked = [kind for kind, name in made.items() if name in outcomes[-1]]
        assert not leaked, f"{method} names acme's {leaked}: {outcomes[-1]}"
    if trial.compared:
        assert outcomes[0] == outcomes[1], f"{method} tells that acme has it"
    after = await told()
    assert after == before, f"{method} changes what acme has"


def _other(name: str) -> str:
    """A name of the same form and length that nobody has used."""
    return name.translate(str.maketrans("0123456789", "9876543210")) if _ID.fullmatch(name) else f"{name[:-1]}z"


def _plain(outcome: Any, names: Names, params: Any) -> str:
    """An outcome as text, with the kinds in place of the names that were given, and without what varies."""
    text = json.dumps(_settled(outcome), ensure_ascii=False)
    given = json.dumps(params, ensure_ascii=False)
    for kind, name in names.items():
        if name in given:
            text = text.replace(name, f"<{kind}>")
    return _ID.sub(lambda found: found[0] if found[0] in names.values() else "<made>", text)


def _settled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: "~" if name in VARYING and _varies(each) else _settled(each) for name, each in value.items()}
    return [_settled(each) for each in value] if isinstance(value, list) else value


def _varies(value: Any) -> bool:
    """Ids stay, for they may be acme's."""
    return not (isinstance(value, str) and _ID.fullmatch(value))


async def asked(peer: Peer, calls: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    """What calls answer, without what varies: errors are answers, too."""
    return [_settled(await peer.call(method, params)) for method, params in calls]
