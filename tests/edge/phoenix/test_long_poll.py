"""Long polling with a hub in memory and time of its own: who polls, who does not any more, and what waits meanwhile."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote

import pytest

from tests.hub.pubsub import PubSub
from tests.support.timing import until
from trunkline.edge.access.credentials import Credentials
from trunkline.edge.access.rules import AccessRules
from trunkline.edge.context import EdgeContext
from trunkline.edge.http.named_requests import named_requests
from trunkline.edge.http.wire import WIRE, Wire
from trunkline.edge.phoenix.endpoint import PhoenixEndpoint
from trunkline.edge.phoenix.long_poll import MAX_POSTS, PATH, WINDOW, LongPollEndpoint
from trunkline.edge.phoenix.poll_session import PAUSE_BYTES
from trunkline.hub.connection import Traffic
from trunkline.hub.outbox import Flusher
from trunkline.hub.principal import Handshake, Principal
from trunkline_protocol.codecs.phoenix_memory import ClientMemories
from trunkline_protocol.errors import ErrorCode, RpcError

pytestmark = pytest.mark.virtual_time

MESSAGE_BYTES: Final = 2 * 10**6
NONE: Final[Mapping[str, str]] = {}
LINES: Final = {"content-type": "application/x-ndjson"}


class Hub:
    """The hub, and the requests of one peer."""

    def __init__(self, authenticate: Any = None, *, auth_call: bool = False, outbox_bytes: int = 10**6) -> None:
        self.pubsub = PubSub()
        loop = asyncio.get_running_loop()
        rules = AccessRules({"hub"}, {"https://app.example"}, authenticate or Credentials().authenticate)
        self.refused: list[Any] = []
        self.context = EdgeContext(
            self.pubsub.services, rules, Flusher(loop), 10, MESSAGE_BYTES, outbox_bytes, 10**5, auth_call,
            refused=self.refused.append,
        )  # fmt: skip
        self.door = LongPollEndpoint(self.context, PhoenixEndpoint(8, (), ClientMemories(60, 4, 8, 8, loop.time)))
        self.token: str | None = None
        self.query = "vsn=2.0.0"

    async def ask(
        self,
        method: str,
        body: bytes = b"",
        token: str | None = None,
        headers: Mapping[str, str] = NONE,
        gone: asyncio.Event | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """One request: the status of HTTP, and the body."""
        query = self.query + ("" if token is None else f"&token={quote(token)}")
        lines = {"host": "hub", "content-length": str(len(body)), **headers}
        scope = {
            "type": "http", "method": method, "path": PATH, "query_string": query.encode(), "client": ("127.0.0.1", 5),
            "headers": [(name.encode(), value.encode()) for name, value in lines.items()],
            WIRE: Wire(asyncio.Transport()),
        }  # fmt: skip
        requests = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Any] = []

        async def receive() -> Any:
            if requests:
                return requests.pop()
            await (gone or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await named_requests(self.door)(scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])

    async def open(self, headers: Mapping[str, str] = NONE) -> None:
        status, answer = await self.ask("GET", headers=headers)
        assert (status, answer["status"], answer["messages"]) == (200, 410, [])
        self.token = answer["token"]

    async def poll(self, headers: Mapping[str, str] = NONE) -> dict[str, Any]:
        status, answer = await self.ask("GET", token=self.token, headers=headers)
        assert status == 200, answer
        self.token = answer["token"]
        return answer

    async def send(self, *messages: Any, headers: Mapping[str, str] = LINES) -> dict[str, Any]:
        body = "\n".join(message if isinstance(message, str) else json.dumps(message) for message in messages)
        status, answer = await self.ask("POST", body.encode(), self.token, headers)
        assert status == 200, answer
        return answer

    async def told(self) -> list[Any]:
        """The messages of the next poll."""
        answer = await self.poll()
        assert answer["status"] == 200, answer
        return [json.loads(message) for message in answer["messages"]]

    async def join(self, topic: str) -> Any:
        assert (await self.send(["1", "1", topic, "phx_join", {}]))["status"] == 200
        [[_, _, _, event, payload]] = await self.told()
        assert (event, payload["status"]) == ("phx_reply", "ok"), payload
        return payload["response"]

    def publish(self, topic: str, data: Any) -> None:
        assert self.pubsub.route("publish", topic=topic, data=data).error is None

    @property
    def transports(self) -> list[Traffic]:
        return [listener.traffic() for listener in self.context.listeners]


@asynccontextmanager
async def polling(hub: Hub) -> AsyncIterator[asyncio.Task[dict[str, Any]]]:
    """A poll that waits for messages."""
    task = asyncio.create_task(hub.poll())
    await asyncio.sleep(0.01)
    assert not task.done()
    yield task
    await task


async def test_a_first_poll_opens_a_session_which_is_one_connection() -> None:
    hub = Hub()
    await hub.open({"user-agent": "a page"})
    [traffic] = hub.transports
    assert traffic == Traffic("longpoll", "a page", 0, 0)
    assert (await hub.join("topic:a"))["topic"] == "a"
    assert len(hub.transports) == 1
    assert hub.transports[0].received > 0 < hub.transports[0].sent  # type: ignore[operator]  # it counts them


async def test_a_poll_that_waits_is_answered_at_once_when_an_event_comes() -> None:
    hub = Hub()
    await hub.open()
    await hub.join("topic:a")
    async with polling(hub) as poll:
        hub.publish("a", 7)
        answer = await poll
    assert answer["status"] == 200
    [message] = map(json.loads, answer["messages"])
    assert (message[:4], message[4]["data"]) == ([None, None, "topic:a", "event"], 7)


async def test_a_poll_is_answered_with_nothing_after_the_window_and_the_session_goes_on() -> None:
    hub = Hub()
    await hub.open()
    loop = asyncio.get_running_loop()
    for _ in range(20):
        begun = loop.time()
        assert (await hub.poll())["status"] == 204
        assert loop.time() - begun == pytest.approx(WINDOW)
    await hub.join("topic:a")


async def test_what_comes_between_polls_waits_for_the_next_one() -> None:
    hub = Hub()
    await hub.open()
    await hub.join("topic:a")
    for n in range(3):
        hub.publish("a", n)
    await asyncio.sleep(1)
    assert [message[4]["data"] for message in await hub.told()] == [0, 1, 2]


async def test_a_poll_whose_answer_was_lost_gets_it_again_and_a_stale_one_disturbs_nobody() -> None:
    hub = Hub()
    await hub.open()
    await hub.join("topic:a")
    hub.publish("a", 1)
    before = hub.token
    first = await hub.told()
    _, again = await hub.ask("GET", token=before)
    assert [json.loads(message) for message in again["messages"]] == first
    assert again["token"] == hub.token
    hub.publish("a", 2)
    assert [message[4]["data"] for message in await hub.told()] == [2]
    assert (await hub.ask("GET", token=before))[1] == {"status": 410, "token": None, "messages": []}
    hub.publish("a", 3)
    assert [message[4]["data"] for message in await hub.told()] == [3]


async def test_a_peer_that_leaves_while_it_waits_takes_nothing_with_it() -> None:
    hub = Hub()
    await hub.open()
    await hub.join("topic:a")
    gone = asyncio.Event()
    task = asyncio.create_task(hub.ask("GET", token=hub.token, gone=gone))
    await asyncio.sleep(0.01)
    gone.set()
    assert (await task)[1]["status"] == 204
    hub.publish("a", 1)
    assert [message[4]["data"] for message in await hub.told()] == [1]


async def test_the_newest_poll_is_the_peers() -> None:
    hub = Hub()
    await hub.open()
    await hub.join("topic:a")
    async with polling(hub) as first:
        second = asyncio.create_task(hub.poll())
        assert (await first)["status"] == 204
    hub.publish("a", 1)
    assert (await second)["status"] == 200


async def test_a_session_that_nobody_polls_ends_with_its_subscriptions() -> None:
    hub = Hub()
    await hub.open()
    await hub.join("topic:a")
    assert hub.pubsub.topics.count == 1
    await asyncio.sleep(hub.context.ping_interval + hub.context.ping_timeout - 1)
    assert len(hub.transports) == 1
    await asyncio.sleep(2)
    assert (hub.transports, hub.pubsub.topics.count) == ([], 0)
    assert (await hub.poll())["status"] == 410
    assert hub.token is None
    await hub.open()


@pytest.mark.parametrize("ends", ["silence", "close"])
async def test_a_session_that_has_ended_is_freed_without_a_collection(ends: str) -> None:
    """Garbage collections stop the whole loop: what refers to itself would wait for one."""
    hub = Hub()
    hub.query += "&client=page"
    await hub.open()
    await hub.join("topic:a")
    await hub.poll()
    gone = weakref.ref(next(iter(hub.door._sessions.values())))
    gc.collect()
    gc.disable()
    try:
        if ends == "silence":
            await asyncio.sleep(hub.context.ping_interval + hub.context.ping_timeout + 1)
        else:
            hub.context.close_where(lambda _principal: True, 4001, ends)
            await asyncio.sleep(1)
        assert gone() is None
    finally:
        gc.enable()


async def test_a_message_for_a_session_that_is_gone_is_told_so() -> None:
    hub = Hub()
    hub.token = "longpoll.AAAAAAAAAAAAAAAAAAAAAA.0"
    assert (await hub.send([None, "1", "phoenix", "heartbeat", {}]))["status"] == 410
    hub.token = None
    assert (await hub.send([None, "1", "phoenix", "heartbeat", {}]))["status"] == 410


async def test_when_the_hub_closes_all_the_poll_is_answered_at_once() -> None:
    hub = Hub()
    await hub.open()
    async with polling(hub) as poll:
        begun = asyncio.get_running_loop().time()
        await hub.context.close_all(1012, "the hub is stopping", 0)
        assert (await poll) == {"status": 410, "token": None, "messages": []}
        assert asyncio.get_running_loop().time() == begun
    await until(lambda: not hub.transports, "it has left")
    status, answer = await hub.ask("GET")
    assert (status, answer["status"], answer["error"]["code"]) == (503, 500, ErrorCode.WORKER_UNAVAILABLE)


async def test_bad_lines_are_answered_and_those_around_them_taken() -> None:
    hub = Hub()
    await hub.open()
    beat: list[Any] = [None, "1", "phoenix", "heartbeat", {}]
    await hub.send(beat, "nonsense!", "[", beat)
    told = await hub.told()
    assert [(message[1], message[4]["status"]) for message in told] == [
        ("1", "ok"), (None, "error"), (None, "error"), ("1", "ok"),
    ]  # fmt: skip


async def test_one_message_as_json_as_older_clients_send_it() -> None:
    hub = Hub()
    await hub.open()
    await hub.send([None, "1", "phoenix", "heartbeat", {}], headers={"content-type": "application/json"})
    assert [message[1] for message in await hub.told()] == ["1"]


async def test_bytes_go_in_as_base64_and_come_out_as_text() -> None:
    hub = Hub()
    await hub.open()
    await hub.join("rpc:a")
    fields = [b"1", b"2", b"rpc:a", b"work.do"]
    frame = bytes([0, *map(len, fields)]) + b"".join(fields) + b"\xff"

    await hub.send(base64.b64encode(frame).decode())
    [call] = hub.pubsub.router.backend.calls  # type: ignore[attr-defined]  # the test's own backend
    assert json.loads(call.params) == {"data": {"$bytes": "/w=="}}
    call.settle_result(b'{"$bytes":"AQ=="}')
    [reply] = await hub.told()
    assert reply[4] == {"status": "ok", "response": {"$bytes": "AQ=="}}


async def test_a_peer_that_sends_and_does_not_poll_is_read_no_further() -> None:
    hub = Hub()
    await hub.open()
    big = json.dumps([None, "x" * 250, "phoenix", "heartbeat", {}])
    lines = [big] * (4 * PAUSE_BYTES // len(big))
    post = asyncio.create_task(hub.send(*lines))
    await asyncio.sleep(1)
    assert not post.done()
    kept = len(hub.door._sessions)
    assert kept == 1
    told = 0
    while told < len(lines):
        told += len(await hub.told())
    assert (await post)["status"] == 200
    post = asyncio.create_task(hub.send(*lines))
    await asyncio.sleep(hub.context.ping_interval + hub.context.ping_timeout + 1)
    assert (await post)["status"] == 410


async def test_a_slow_reader_loses_events_and_is_told_so() -> None:
    hub = Hub()
    await hub.open()
    await hub.join("topic:a")
    for n in range(100):
        hub.publish("a", f"{n:010000}")
        await asyncio.sleep(0)
    told: list[Any] = []
    while not told or told[-1][4].get("offset") != 100:
        told += await hub.told()
    events = [message[4]["offset"] for message in told if message[3] == "event"]
    gaps = [(message[4]["from"], message[4]["to"]) for message in told if message[3] == "event.gap"]
    missing = {n for begin, end in gaps for n in range(begin, end + 1)}
    assert gaps
    assert missing.isdisjoint(events)
    assert missing | set(events) == set(range(1, 101))


async def test_too_many_posts_at_once_are_refused_with_a_status_to_try_again() -> None:
    hub = Hub()
    await hub.open()
    [session] = hub.door._sessions.values()
    session.pause_reading()
    posts = [asyncio.create_task(hub.send("[]")) for _ in range(MAX_POSTS)]
    await asyncio.sleep(0.01)
    status, answer = await hub.ask("POST", b"[]", hub.token, LINES)
    assert (status, answer["status"], answer["error"]["code"]) == (503, 500, ErrorCode.RESOURCE_EXHAUSTED)
    session.resume_reading()
    assert {answer["status"] for answer in await asyncio.gather(*posts)} == {200}


async def test_a_poll_confirms_what_the_one_before_was_answered() -> None:
    hub = Hub()
    hub.query += "&client=page"
    await hub.open()
    await hub.join("topic:a")
    for n in (1, 2):
        hub.publish("a", n)
        assert [message[4]["data"] for message in await hub.told()] == [n]
    hub.token = None
    await hub.open()
    await hub.send(["1", "1", "topic:a", "phx_join", {}])
    told = await hub.told()
    assert [message[4]["data"] for message in told if message[3] == "event"] == [2]
    assert [message[4]["response"]["repeats"] for message in told if message[3] == "phx_reply"] == [1]


@pytest.mark.parametrize("client", ["", "x" * 129])
async def test_a_name_that_cannot_be_kept_is_refused(client: str) -> None:
    hub = Hub()
    hub.query += f"&client={client}"
    assert (await hub.ask("GET"))[1]["status"] == 403
    hub = Hub(auth_call=True)
    hub.query += "&client=page"
    assert (await hub.ask("GET"))[0] == 400


# --- who comes in ---


def tokens(handshake: Handshake) -> Principal:
    if handshake.token not in ("one", "two"):
        raise RpcError(ErrorCode.UNAUTHENTICATED, "nobody knows you")
    return Principal(handshake.token)


@pytest.mark.parametrize(
    "given", [{"authorization": "Bearer one"}, {"x-phoenix-authtoken": "one"}, {}], ids=["bearer", "authToken", "param"]
)
async def test_credentials_where_clients_put_them(given: dict[str, str]) -> None:
    hub = Hub(tokens)
    if not given:
        hub.query += "&token=one"
    await hub.open(given)
    assert [listener.principal.name for listener in hub.context.listeners] == ["one"]
    await hub.send([None, "1", "phoenix", "heartbeat", {}])  # phoenix.js sends no header with it
    assert (await hub.poll(given))["status"] == 200


async def test_without_credentials_it_is_403_in_words_of_phoenix_js() -> None:
    hub = Hub(tokens)
    status, answer = await hub.ask("GET")
    assert (status, answer["status"], answer["token"]) == (401, 403, None)
    assert answer["error"]["code"] == ErrorCode.UNAUTHENTICATED
    assert len(hub.refused) == 1


async def test_a_poll_with_other_credentials_than_the_sessions_is_refused() -> None:
    hub = Hub(tokens)
    await hub.open({"x-phoenix-authtoken": "one"})
    for other in ({"x-phoenix-authtoken": "two"}, {}):
        status, answer = await hub.ask("GET", token=hub.token, headers=other)
        assert (status, answer["status"]) == (403, 403)
    status, _ = await hub.ask("POST", token=hub.token, headers={"x-phoenix-authtoken": "two"})
    assert status == 403, "phoenix.js sends none with messages"
    [session] = hub.door._sessions.values()
    assert session.knows(0)


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"host": "evil.example"}])
async def test_origin_and_host_are_those_of_every_request(headers: dict[str, str]) -> None:
    hub = Hub()
    assert (await hub.ask("GET", headers=headers))[1]["status"] == 403
    await hub.open({"origin": "https://app.example"})
    for method in ("GET", "POST"):
        status, answer = await hub.ask(method, b"[]", hub.token, LINES | headers)
        assert (status, answer["status"]) == (403, 403)


@pytest.mark.parametrize("query", ["", "vsn=1.0.0", "vsn=2.1.0"])
async def test_another_version_is_refused(query: str) -> None:
    hub = Hub()
    hub.query = query
    status, answer = await hub.ask("GET")
    assert (status, answer["status"]) == (400, 403)
    assert "vsn=2.0.0" in answer["error"]["message"]
    assert not hub.transports


async def test_too_many_sessions_of_a_principal_or_an_address_are_refused() -> None:
    hub = Hub()
    hub.pubsub.services.shares.limits.max_connections_per_principal = 1
    await hub.open()
    status, answer = await hub.ask("GET")
    assert (status, answer["status"]) == (503, 500)
    assert answer["error"]["data"]["limit"] == "TRUNKLINE_MAX_CONNECTIONS_PER_PRINCIPAL"
    hub.pubsub.services.shares.limits.max_connections_per_principal = 0
    hub.pubsub.services.shares.limits.max_connections_per_address = 1
    assert (await hub.ask("GET"))[1]["error"]["data"]["limit"] == "TRUNKLINE_MAX_CONNECTIONS_PER_ADDRESS"


async def test_credentials_that_are_revoked_end_the_session() -> None:
    hub = Hub(tokens)
    await hub.open({"x-phoenix-authtoken": "one"})
    poll = asyncio.create_task(hub.poll({"x-phoenix-authtoken": "one"}))
    await asyncio.sleep(0.01)
    assert hub.context.close_where(lambda principal: principal.name == "one", 4001, "revoked") == 1
    assert (await poll)["status"] == 410
    assert (await hub.send([None, "1", "phoenix", "heartbeat", {}]))["status"] == 410


async def test_before_it_has_authenticated_a_peer_may_not_send_much() -> None:
    hub = Hub(auth_call=True)
    await hub.open()
    limit = hub.pubsub.limits.pending_bytes
    status, answer = await hub.ask("POST", b"[" * (limit + 1), hub.token, LINES)
    assert (status, answer["status"], answer["error"]["code"]) == (401, 403, ErrorCode.UNAUTHENTICATED)
    beat = json.dumps([None, "1", "phoenix", "heartbeat", {}])
    for _ in range(limit // 4000 + 1):
        answer = await hub.send(*[beat] * (4000 // len(beat)))
    assert answer["status"] == 410


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("PUT", LINES, 405),
        ("DELETE", {}, 405),
        ("POST", {"content-type": "text/plain"}, 415),
        ("POST", LINES | {"content-encoding": "gzip"}, 415),
    ],
)
async def test_other_requests(method: str, headers: dict[str, str], status: int) -> None:
    hub = Hub()
    await hub.open()
    assert (await hub.ask(method, b"[]", hub.token, headers))[0] == status


async def test_a_body_that_is_too_large_is_413() -> None:
    hub = Hub()
    await hub.open()
    assert (await hub.ask("POST", b"[" * (MESSAGE_BYTES + 1), hub.token, LINES))[0] == 413
