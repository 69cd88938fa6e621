"""Names of tenants: kept apart from those of others, but for what is shared."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trunkline_protocol.principals import DEFAULT_TENANT, is_name
from trunkline_protocol.tenants import SharedNames, key_in, name_in, tenant_and_name
from trunkline_protocol.topics import valid_topic

PRINTABLE = st.characters(codec="utf-8", exclude_categories=("C", "Z"))
TENANTS = st.one_of(
    st.sampled_from(["default", "acme", "acme.eu", "a"]), st.text(PRINTABLE, min_size=1).filter(is_name)
)
TOPICS = st.one_of(
    st.sampled_from(["acme", "acme.news", "news", "default"]), st.text(PRINTABLE, min_size=1).filter(valid_topic)
)


@given(st.tuples(TENANTS, TOPICS), st.tuples(TENANTS, TOPICS))
def test_two_names_have_one_key_only_if_they_are_the_same_of_the_same_tenant(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    assert (key_in(*one) == key_in(*other)) is (one == other)
    assert tenant_and_name(key_in(*one)) == one
    assert name_in(key_in(*one)) == one[1]


def test_names_of_the_tenant_default_are_their_own_keys() -> None:
    assert key_in(DEFAULT_TENANT, "news.sport") == "news.sport"
    assert tenant_and_name("news.sport") == (DEFAULT_TENANT, "news.sport")


def test_what_is_shared_has_one_key_for_all_and_everything_else_one_a_tenant() -> None:
    shared = SharedNames(("news.>",))
    assert {shared.key(tenant, "news.sport") for tenant in ("default", "acme", "bolt")} == {"news.sport"}
    assert len({shared.key(tenant, "new.sport") for tenant in ("default", "acme", "bolt")}) == 3
    assert shared.owner("acme", "news.sport") == DEFAULT_TENANT
    assert shared.owner("acme", "mails") == "acme"


def test_a_pattern_is_shared_where_all_that_it_reaches_is() -> None:
    shared = SharedNames(("news.>", "open.*"))
    assert all(map(shared.covers, ("news.>", "news.*", "news.a", "open.*", "open.a")))
    assert not any(map(shared.covers, (">", "*", "*.a", "open.>", "news", "new.*")))
    assert shared.reaches("open.a")
    assert not shared.reaches("open.a.b")
    assert not SharedNames().reaches("news.a")
