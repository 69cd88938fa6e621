from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.hub.principal import ANONYMOUS, ROLES, Granted, Principal, _any_reaches_cached, not_granted
from trunkline_protocol.errors import ErrorCode

ADMIN = Principal("admin", frozenset({"admin"}))
FREE = Principal("free")
NOTHING = Principal("nothing", frozenset(), (), (), ())


def limited(*methods: str) -> Principal:
    return Principal("limited", methods=methods)


@pytest.mark.parametrize(
    ("principal", "method", "allowed"),
    [
        (ANONYMOUS, "config.set", True),
        (FREE, "anything.at.all", True),
        (FREE, "", True),  # whether it exists is the router's question
        (limited("rag.*"), "rag.execute", True),
        (limited("rag.*"), "rag", False),
        (limited("rag.*"), "rag.execute.more", False),
        (limited("rag.*"), "ragx.execute", False),
        (limited("rag.*"), "", False),
        (limited("embeddings.>"), "embeddings.create", True),
        (limited("embeddings.>"), "embeddings.a.b", True),
        (limited("embeddings.>"), "embeddings", False),
        (limited("rag.execute", "vectors.search"), "vectors.search", True),
        (limited("rag.execute", "vectors.search"), "vectors.upsert", False),
        (limited("*.*"), "system.info", False),
        (limited(">"), "system.info", True),
        (limited(">"), "one", True),
        (limited("system.*"), "system.info", True),
        (limited("rag.*"), "rag." + "x" * 300, False),
        (limited(">"), "x" * 300, True),
        (NOTHING, "rag.execute", False),
    ],
)
def test_methods(principal: Principal, method: str, allowed: bool) -> None:
    assert principal.may_call(method) is allowed


@pytest.mark.parametrize(
    "method", ["auth", "health.check", "rpc.discover", "rpc.ping", "session.close", "session.open", "unsubscribe"]
)
def test_the_basic_methods_are_for_everybody(method: str) -> None:
    assert NOTHING.may_call(method)


@pytest.mark.parametrize("method", ["rpc.other", "health.detailed", "subscribe", "publish", "method.register"])
def test_others_are_not(method: str) -> None:
    assert not NOTHING.may_call(method)


def test_topics_that_are_listed_open_the_calls_for_them() -> None:
    reader = Principal("reader", methods=("rag.*",), subscribe=("jobs.>",))
    assert reader.may_call("subscribe")
    assert not reader.may_call("publish")
    assert not limited("rag.*").may_call("subscribe")
    assert limited("subscribe").may_call("subscribe")
    assert Principal("writer", methods=(), publish=("jobs.>",)).may_call("publish")
    assert not Principal("mute", methods=(), publish=()).may_call("publish")


@pytest.mark.parametrize(
    ("publish", "topic", "allowed"),
    [
        (None, "jobs.1", True),
        ((), "jobs.1", False),
        (("jobs.*",), "jobs.1", True),
        (("jobs.*",), "jobs.1.done", False),
        (("a", "jobs.>"), "jobs.1.done", True),
        ((">",), "jobs", True),
        (None, "system.logs", False),
        ((">",), "system.logs", False),
        (("system.>",), "system.logs", False),
        (("system.logs",), "system.logs", False),
        (None, "system", False),
        (None, "systems.logs", True),
    ],
)
def test_publish(publish: tuple[str, ...] | None, topic: str, allowed: bool) -> None:
    assert Principal("p", frozenset({"admin"}), publish=publish).may_publish(topic) is allowed


@pytest.mark.parametrize(
    ("subscribe", "pattern", "allowed"),
    [
        (None, "jobs.1", True),
        (None, ">", True),  # which does not reach into system.
        ((), "jobs.1", False),
        (("jobs.>",), "jobs.1", True),
        (("jobs.>",), "jobs.*", True),
        (("jobs.>",), "jobs.>", True),
        (("jobs.>",), "jobs", False),
        (("jobs.>",), ">", False),
        (("jobs.*",), "jobs.>", False),
        (("jobs.*",), "jobs.*.done", False),
        (("jobs.1",), "jobs.*", False),
        (("jobs.*", "logs.*"), "logs.*", True),
        ((">",), "*.x", True),
    ],
)
def test_subscribe(subscribe: tuple[str, ...] | None, pattern: str, allowed: bool) -> None:
    assert Principal("s", subscribe=subscribe).may_subscribe(pattern) is allowed


@pytest.mark.parametrize(
    ("roles", "subscribe", "pattern", "allowed"),
    [
        ((), None, "system.metrics", False),
        ((), None, "system.>", False),
        ((), None, "system", False),
        (("callee",), None, "system.metrics", False),
        ((), (">",), "system.metrics", False),
        ((), ("*.metrics",), "system.metrics", False),
        ((), ("system.metrics",), "system.metrics", True),
        ((), ("system.metrics",), "system.logs", False),
        ((), ("system.metrics",), "system.>", False),
        ((), ("system.>",), "system.*", True),
        (("admin",), None, "system.>", True),
        (("admin",), ("jobs.>",), "system.logs", True),
        (("admin",), ("jobs.>",), "other", False),
    ],
)
def test_system_topics(roles: tuple[str, ...], subscribe: tuple[str, ...] | None, pattern: str, allowed: bool) -> None:
    assert Principal("s", frozenset(roles), subscribe=subscribe).may_subscribe(pattern) is allowed


def test_the_anonymous_principal_may_do_everything_but_speak_for_the_hub() -> None:
    assert ANONYMOUS.roles == ROLES
    assert ANONYMOUS.may_call("config.set")
    assert ANONYMOUS.may_subscribe("system.>")
    assert ANONYMOUS.may_publish("x")
    assert not ANONYMOUS.may_publish("system.x")


def test_a_refusal_names_the_right_and_where_it_is_granted() -> None:
    rights: tuple[Granted, ...] = ("methods", "subscribe", "publish")
    for right, name in zip(rights, ("rag.execute", "logs.a", "logs.a"), strict=True):
        error = not_granted(NOTHING, right, name)
        assert error.code == ErrorCode.FORBIDDEN
        assert f"no pattern of its {right} reaches it (granted by tokens file, JWT or hook)" in error.message
        assert error.message.startswith("nothing may not ")
    assert "role admin, or a pattern of its subscribe" in not_granted(NOTHING, "subscribe", "system.logs").message
    assert len(not_granted(NOTHING, "methods", "x" * 10_000).message) < 1000


def test_names_that_peers_choose_do_not_fill_the_memory() -> None:
    principal = limited("rag.*")
    _any_reaches_cached.cache_clear()
    for number in range(5000):
        principal.may_call(f"rag.{number}")
    assert _any_reaches_cached.cache_info().currsize <= 4096
    before = _any_reaches_cached.cache_info().misses
    principal.may_call("rag." + "x" * 1_000_000)
    assert _any_reaches_cached.cache_info().misses == before, "a name this long must not be kept"


@given(st.text(), st.lists(st.sampled_from(["rag.*", ">", "a.b", "*", "system.>"])))
def test_any_name_gets_an_answer(name: str, patterns: list[str]) -> None:
    principal = Principal("p", frozenset(), tuple(patterns), tuple(patterns), tuple(patterns))
    for ask in (principal.may_call, principal.may_publish, principal.may_subscribe):
        assert ask(name) in (True, False)


def test_it_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FREE.methods = ()  # type: ignore[misc]


def test_what_it_is_described_by_is_the_same_where_a_method_calls_with_its_own_rights() -> None:
    ann = Principal("ann", frozenset({"admin", "reader"}), (), tenant="acme", claims={"team": "blue"})
    own = ann.as_method("rag.execute")
    assert own.encoded is ann.encoded, "encoded once"
    assert (own.name, own.roles, own.tenant, own.claims) == (ann.name, ann.roles, ann.tenant, ann.claims)
    assert (own.acting, own.methods) == ("rag.execute", None)
    assert ann.has_role("admin")
    assert not own.has_role("admin"), "a role is nothing that a method has"
    assert not own.may_subscribe("system.logs")


def test_principals_with_claims_can_be_keys() -> None:
    assert (
        len({Principal("a", claims={"b": [1]}), Principal("a", claims={"b": [2]}), Principal("a", claims={"b": [1]})})
        == 2
    )
