"""What scenario.js does, with the Python client, then part of it with the synchronous one.

``python scenario.py URL TOKEN NAME``
"""

import asyncio
import json
import sys
from importlib.metadata import distributions
from typing import Any

from trunkline.client import (
    Connected,
    ConnectError,
    ConnectionState,
    Event,
    Gap,
    connect,
    connect_sync,
)
from trunkline_protocol.errors import RpcError

URL, TOKEN, NAME = sys.argv[1:]
TOPIC = f"runtimes.{NAME}"


def state_of(change: ConnectionState) -> str:
    return "resumed" if isinstance(change, Connected) and change.resumed else change.state


def heard_of(event: Event | Gap) -> Any:
    return event.data if isinstance(event, Event) else event.reason


async def scenario() -> dict[str, Any]:
    states: list[str] = []
    heard: list[Any] = []
    async with connect(URL, token=TOKEN) as hub:
        hub.on_connection_state(lambda change: states.append(state_of(change)))
        called = await hub.call("debug.echo", {"value": "Grüße"})
        try:
            failed: Any = await hub.call("no.such")
        except RpcError as error:
            failed = {"kind": "rpc", "code": error.code, "message": error.message}
        stream = hub.stream("debug.count", {"n": 100})
        indexes = [chunk.index async for chunk in stream]
        async with hub.subscribe(TOPIC) as events:
            await hub.publish(TOPIC, 1)
            cut = await hub.call(f"runtimes.cut.{NAME}")
            await hub.publish(TOPIC, 3)
            async for event in events:
                heard.append(heard_of(event))
                if heard[-1] == 3:
                    break
    return {
        "called": called,
        "failed": failed,
        "indexes": indexes,
        "summary": stream.result,
        "cut": cut,
        "states": states,
        "heard": heard,
        "refused": await refused(),
    }


async def refused() -> Any:
    try:
        await connect(URL, token="wrong")
    except ConnectError as error:
        code = None if error.error is None else error.error.code
        return {"kind": "connect", "code": code, "message": str(error)}
    return "let in"


def synchronous() -> Any:
    with connect_sync(URL, token=TOKEN) as hub:
        chunks = [chunk.index for chunk in hub.stream("debug.count", {"n": 3})]
        with hub.subscribe(TOPIC, history=1) as events:
            return [hub.call("debug.echo", {"value": 1}), chunks, heard_of(next(events))]


said = asyncio.run(scenario())
installed = sorted(found.name.lower().replace("_", "-") for found in distributions())
print(json.dumps(said | {"synchronous": synchronous(), "installed": installed}))
