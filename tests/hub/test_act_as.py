"""Whom a gateway may act as, and with which rights."""

from __future__ import annotations

from typing import Any

import pytest

from trunkline.hub.act_as import act_as, require_call
from trunkline.hub.principal import ACT_AS, ADMIN, Principal
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import ActAs

GATEWAY = Principal(
    "gateway", frozenset({"act_as", "reader"}), ("rag.*",), ("a.*",), ("b.*",), rate=3, credential="file:1"
)


def refusal(gateway: Principal, named: ActAs, known: Principal | None = None) -> RpcError:
    with pytest.raises(RpcError) as caught:
        act_as(gateway, named, known)
    return caught.value


def test_one_that_is_not_known_has_the_gateways_patterns_and_no_role() -> None:
    ann = act_as(GATEWAY, ActAs("ann", "acme", {"team": "blue"}))
    assert (ann.name, ann.tenant, ann.claims, ann.roles, ann.actor) == (
        "ann",
        "acme",
        {"team": "blue"},
        frozenset(),
        "gateway",
    )
    assert (ann.methods, ann.subscribe, ann.publish) == (("rag.*",), ("a.*",), ("b.*",))
    assert (ann.rate, ann.credential, act_as(GATEWAY, ActAs("ann")).tenant) == (None, "file:1", "default")


def test_one_that_is_known_has_its_own() -> None:
    known = Principal("ann", frozenset({"writer"}), ("text.*",), tenant="acme", claims={"team": "blue"})
    ann = act_as(GATEWAY, ActAs("ann"), known)
    assert (ann.roles, ann.methods, ann.subscribe) == (frozenset({"writer"}), ("text.*",), None)
    assert (ann.tenant, ann.claims) == ("acme", {"team": "blue"})
    assert act_as(GATEWAY, ActAs("ann", claims={}), known).claims == {}
    require_call(ann, "text.upper")
    with pytest.raises(RpcError, match=r"ann may not call rag\.execute, as which gateway acts"):
        require_call(ann, "rag.execute")


@pytest.mark.parametrize("role", ["admin", "callee", "act_as"])
def test_nobody_gets_a_built_in_role_by_it(role: str) -> None:
    known = Principal("root", frozenset({role}))
    gateway = Principal("gateway", frozenset({"act_as"}))
    if role == "act_as":
        assert act_as(gateway, ActAs("root"), known).roles == {"act_as"}
        return
    error = refusal(gateway, ActAs("root"), known)
    assert (error.code, role in error.message) == (ErrorCode.FORBIDDEN, True)
    assert act_as(Principal("gateway", frozenset({"act_as", role})), ActAs("root"), known).has_role(role)


def test_it_takes_the_role() -> None:
    assert refusal(Principal("bob", frozenset({"admin"})), ActAs("ann")).code == ErrorCode.FORBIDDEN
    own = GATEWAY.as_method("rag.execute")
    assert refusal(own, ActAs("ann")).code == ErrorCode.FORBIDDEN, "a method has no role"


@pytest.mark.parametrize(
    "wrong",
    [{"principal": ""}, {"principal": "a\nb"}, {"tenant": ""}, {"tenant": "x" * 257}, {"claims": {"a": "x" * 5000}}],
)
def test_what_is_no_principal_is_refused(wrong: dict[str, Any]) -> None:
    error = refusal(GATEWAY, ActAs(**{"principal": "ann", **wrong}))
    assert (error.code, next(iter(wrong)) in error.message) == (ErrorCode.INVALID_PARAMS, True)


@pytest.mark.parametrize("method", ["subscribe", "unsubscribe", "session.open", "method.register", "auth"])
def test_the_connection_stays_the_gateways(method: str) -> None:
    with pytest.raises(RpcError, match="about the connection") as caught:
        require_call(act_as(GATEWAY, ActAs("ann")), method)
    assert caught.value.code == ErrorCode.INVALID_PARAMS


def test_a_gateway_of_a_tenant_acts_in_it_alone_unless_it_is_an_admin() -> None:
    gateway = Principal("gate", frozenset({ACT_AS}), tenant="acme")
    assert act_as(gateway, ActAs("ann")).tenant == "acme", "which is meant where none is named"
    assert act_as(gateway, ActAs("ann", "acme")).tenant == "acme"
    for tenant, known in (("bolt", None), ("default", None), (None, Principal("ann", tenant="bolt"))):
        with pytest.raises(RpcError, match="gate of tenant acme may not act as one of tenant") as caught:
            act_as(gateway, ActAs("ann", tenant), known)
        assert caught.value.code == ErrorCode.FORBIDDEN
    operator = Principal("root", frozenset({ACT_AS, ADMIN}), tenant="acme")
    assert act_as(operator, ActAs("ann", "bolt")).tenant == "bolt"
    assert act_as(Principal("gate", frozenset({ACT_AS})), ActAs("ann", "bolt")).tenant == "bolt"
