"""``{principal}`` and ``{tenant}`` in patterns: what a principal may do is what a plain reading of the words says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.hub.act_as import act_as
from trunkline.hub.placeholders import filled, unknown_placeholder
from trunkline.hub.principal import Principal
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import ActAs

PARTS = ("users", "a", "b", "*", "{principal}", "{tenant}", "x-{tenant}", "{principal}{tenant}")
NAMES = st.text(st.sampled_from("ab.*> {}%"), min_size=1, max_size=4) | st.sampled_from(
    ("a", "b", "users", "system", "jobs", "{tenant}", "a.b", "*", ">", "a@b.c", "a" * 256)
)
TEMPLATES = st.builds(
    lambda parts, rest: ".".join([*parts, *rest]),
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=3),
    st.sampled_from(((), (">",))),
)
TOPICS = st.lists(st.sampled_from(("users", "a", "b", "x-a", "ab", "system", "logs")), min_size=1, max_size=4)


def put(template: str, name: str, tenant: str) -> str:
    return template.replace("{principal}", "\0").replace("{tenant}", tenant).replace("\0", name)


def model(template: str, name: str, tenant: str, topic: list[str]) -> bool:
    """Whether a template reaches a topic: token by token, where names are compared and never read as wildcards."""
    parts = template.split(".")
    for place, part in enumerate(parts):
        if part == ">":
            return len(topic) > place and (place > 0 or topic[0] != "system")
        if place >= len(topic):
            return False
        if part == "*":
            if place == 0 and topic[0] == "system":
                return False
        elif put(part, name, tenant) != topic[place]:
            return False
    return len(parts) == len(topic)


def refused(template: str, name: str, tenant: str) -> bool:
    """Whether a name in use is no token, makes the pattern longer than any, or its beginning the hub's own."""
    used = [value for mark, value in (("{principal}", name), ("{tenant}", tenant)) if mark in template]
    if any(set(value) & set(".*> {}") for value in used):
        return True
    first = template.partition(".")[0]
    return len(put(template, name, tenant)) > 256 or ("{" in first and put(first, name, tenant) in ("system", "jobs"))


@given(TEMPLATES, NAMES, NAMES, TOPICS)
def test_the_decision_is_that_of_a_plain_reading(template: str, name: str, tenant: str, topic: list[str]) -> None:
    stated = Principal(name, methods=(template,), subscribe=(template,), publish=(template,), tenant=tenant)
    if refused(template, name, tenant):
        with pytest.raises(ValueError, match="pattern"):
            stated.named()
        return
    principal, asked = stated.named(), ".".join(topic)
    may = model(template, name, tenant, topic)
    assert principal.may_publish(asked) is (may and topic[0] != "system")
    assert principal.may_subscribe(asked) is may
    assert principal.may_call(asked) is may


@pytest.mark.parametrize("name", ["a.b", "*", ">", "a b", "{tenant}", "ann@example.com", "a" * 250])
def test_a_name_that_is_no_token_is_refused_and_named(name: str) -> None:
    with pytest.raises(ValueError, match=r"cannot stand in the pattern|too long"):
        filled(("free.>", "users.{principal}.>"), name, "acme")
    assert filled(("users.{tenant}.>",), name, "acme") == ("users.acme.>",), "it is not in this pattern"
    assert filled(None, name, "acme") is None


@pytest.mark.parametrize("tenant", ["system", "jobs", "config", "rpc"])
def test_a_tenant_with_the_name_of_the_hubs_own_gets_nothing_of_it(tenant: str) -> None:
    with pytest.raises(ValueError, match="the hub's own"):
        filled(("{tenant}.>",), "ann", tenant)
    assert filled(("of.{tenant}.>",), "ann", tenant) == (f"of.{tenant}.>",)
    with pytest.raises(ValueError, match="the hub's own"):
        filled(("sys{tenant}.>",), "ann", "tem")


def test_names_stand_within_tokens_and_are_filled_once() -> None:
    assert filled(("x-{principal}.{tenant}.{principal}",), "ann", "acme") == ("x-ann.acme.ann",)
    same = ("a.*", "b.>")
    assert filled(same, "ann", "acme") is same


@pytest.mark.parametrize(
    ("pattern", "unknown"), [("a.{user}", "{user}"), ("a.{}", "{}"), ("{tenant}.{Tenant}", "{Tenant}")]
)
def test_what_is_no_placeholder_is_found(pattern: str, unknown: str) -> None:
    assert unknown_placeholder(pattern) == unknown
    assert unknown_placeholder("{tenant}.{principal}.{") is None


def test_whom_a_gateway_acts_as_gets_its_own() -> None:
    patterns = ("users.{principal}.>", "{tenant}.>")
    gateway = Principal("gate", frozenset({"act_as"}), ("who.*",), patterns, patterns).named()
    assert gateway.subscribe == ("users.gate.>", "default.>")
    ann = act_as(gateway, ActAs("ann", "acme"))
    assert (ann.methods, ann.subscribe, ann.publish) == (("who.*",), *(("users.ann.>", "acme.>"),) * 2)
    assert not ann.may_subscribe("users.gate.x")
    for name, tenant in (("*", "acme"), ("ann", "a.b"), ("ann", "system")):
        with pytest.raises(RpcError, match="gate may not act as") as caught:
            act_as(gateway, ActAs(name, tenant))
        assert caught.value.code == ErrorCode.FORBIDDEN


def test_a_known_one_is_not_filled_twice() -> None:
    known = Principal("ann", methods=("users.{tenant}",))
    assert act_as(Principal("gate", frozenset({"act_as"})), ActAs("ann"), known).methods == ("users.{tenant}",)
