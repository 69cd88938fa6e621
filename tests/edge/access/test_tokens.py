from __future__ import annotations

import hashlib
import logging
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trunkline.edge.access.grants import MAX_TOLD, Grants, Roles
from trunkline.edge.access.tokens import TokensFile, digest_of, new_token
from trunkline.hub.act_as import act_as
from trunkline.hub.principal import ANONYMOUS, Principal
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.messages import ActAs

# Fixed, for they are in the names of tests, which have to be the same in every process.
TOKEN = "a-token-of-these-tests-as-long-as-a-new-one"
OTHER = "another-token-of-these-tests-of-that-length"
SHA256 = digest_of(TOKEN)
OTHER_SHA256 = digest_of(OTHER)


def entry(name: str = "alice", sha256: str = SHA256, more: str = "") -> str:
    return f'[[tokens]]\nname = "{name}"\nsha256 = "{sha256}"\n{more}\n'


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "tokens.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def loaded(folder: Path, text: str) -> TokensFile:
    return TokensFile.load(written(folder, text))


def found(tokens: TokensFile, token: str = TOKEN) -> Principal:
    principal = tokens.find(token)
    assert principal is not None
    return principal


def test_new_tokens_are_random_and_long() -> None:
    tokens = {new_token()[0] for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) >= 43 for token in tokens)
    assert hashlib.sha256(TOKEN.encode()).hexdigest() == SHA256 == digest_of(TOKEN)


def test_an_entry_has_a_tenant_and_claims(tmp_path: Path) -> None:
    tokens = loaded(tmp_path, entry(more='tenant = "acme"\nclaims = {team = "blue"}') + entry("bob", OTHER_SHA256))
    alice, bob = found(tokens), found(tokens, OTHER)
    assert (alice.tenant, alice.claims) == ("acme", {"team": "blue"})
    assert (bob.tenant, bob.claims) == ("default", {})
    assert alice.encoded == b'{"name":"alice","roles":[],"tenant":"acme","claims":{"team":"blue"}}'


def test_another_tenant_or_claims_are_other_rights(tmp_path: Path) -> None:
    before = found(loaded(tmp_path, entry(more='tenant = "acme"')))
    assert loaded(tmp_path, entry(more='tenant = "other"')).revoked(before)
    assert loaded(tmp_path, entry(more='tenant = "acme"\nclaims = {a = 1}')).revoked(before)
    assert not loaded(tmp_path, entry(more='tenant = "acme"')).revoked(before)


def test_a_token_is_found_by_its_digest(tmp_path: Path) -> None:
    tokens = loaded(tmp_path, entry() + entry("bob", OTHER_SHA256.upper(), 'roles = ["admin"]'))
    assert len(tokens) == 2
    alice, bob = found(tokens), found(tokens, OTHER)
    assert (alice.name, alice.roles, alice.methods, alice.expires) == ("alice", frozenset(), None, None)
    assert (bob.name, bob.roles) == ("bob", frozenset({"admin"}))
    assert alice.credential != bob.credential


@pytest.mark.parametrize("token", ["", "x", SHA256, TOKEN + " ", TOKEN[:-1], "sécret", "\ud800"])
def test_what_is_not_there_is_not_found(tmp_path: Path, token: str) -> None:
    assert loaded(tmp_path, entry()).find(token) is None


def test_an_empty_file_lets_nobody_in(tmp_path: Path) -> None:
    assert loaded(tmp_path, "").find(TOKEN) is None


ROLES_TEXT = """
[roles.reader]
methods = ["rag.*"]
subscribe = ["jobs.>"]
rate = 5

[roles.writer]
methods = ["vectors.>", "rag.*"]
publish = ["jobs.>"]
rate = 50

[roles.free]
"""


@pytest.mark.parametrize(
    ("more", "methods", "subscribe", "publish", "rate"),
    [
        ("", None, None, None, None),
        ('roles = ["free"]', None, None, None, None),
        ('roles = ["admin", "callee"]', None, None, None, None),
        ('roles = ["reader"]', ("rag.*",), ("jobs.>",), None, 5),
        ('roles = ["reader", "writer"]', ("rag.*", "vectors.>"), ("jobs.>",), ("jobs.>",), 50),
        ('roles = ["admin", "reader"]', ("rag.*",), ("jobs.>",), None, 5),
        ('roles = ["reader"]\nmethods = ["debug.*"]\nrate = 1', ("debug.*", "rag.*"), ("jobs.>",), None, 1),
        ("methods = []\nsubscribe = []\npublish = []\nrate = 0.5", (), (), (), 0.5),
    ],
)
def test_grants_add_up(
    tmp_path: Path,
    more: str,
    methods: tuple[str, ...] | None,
    subscribe: tuple[str, ...] | None,
    publish: tuple[str, ...] | None,
    rate: float | None,
) -> None:
    principal = found(loaded(tmp_path, ROLES_TEXT + entry(more=more)))
    assert (principal.methods, principal.subscribe, principal.publish, principal.rate) == (
        methods,
        subscribe,
        publish,
        rate,
    )


def test_patterns_are_filled_with_name_and_tenant(tmp_path: Path) -> None:
    role = '[roles.user]\nsubscribe = ["users.{principal}.>", "{tenant}.>"]\n'
    more = 'roles = ["user"]\ntenant = "acme"\npublish = ["in.{principal}"]'
    file = role + entry(more=more) + entry("bob", OTHER_SHA256, 'roles = ["user"]')
    tokens = loaded(tmp_path, file)
    assert found(tokens).subscribe == ("users.alice.>", "acme.>")
    assert (found(tokens).publish, found(tokens, OTHER).subscribe) == (("in.alice",), ("users.bob.>", "default.>"))
    assert not loaded(tmp_path, file).revoked(found(tokens))


def test_a_role_that_is_not_defined_is_told_once_and_not_without_end(caplog: pytest.LogCaptureFixture) -> None:
    roles = Roles()
    for _ in range(2):
        roles.principal("p", ["nobody", "admin"], Grants(), credential="c")
    assert [vars(record)["role"] for record in caplog.records] == ["nobody"]
    for number in range(2 * MAX_TOLD):
        roles.principal("p", [f"r{number}"], Grants(), credential="c")
    assert len(caplog.records) == MAX_TOLD


def test_an_unknown_role_grants_nothing_and_takes_the_rest() -> None:
    roles = Roles({"reader": Grants(methods=("rag.*",))})

    def principal(*claimed: str) -> Principal:
        return roles.principal("p", claimed, Grants(), credential="c")

    assert principal().methods is None
    assert (principal("nobody").methods, principal("nobody").subscribe, principal("nobody").publish) == ((), (), ())
    assert principal("nobody").roles == frozenset()
    assert principal("nobody", "callee").methods == ()
    assert principal("nobody", "reader").methods == ("rag.*",)
    assert principal("nobody", "reader").publish == ()
    assert principal("nobody", "admin").methods is None


GUEST = 'default_role = "guest"\n[roles.guest]\nmethods = ["who.*"]\n'


def test_the_default_role_is_that_of_those_without_one(tmp_path: Path) -> None:
    one = found(loaded(tmp_path, GUEST + entry()))
    assert (one.roles, one.methods, one.publish) == (frozenset({"guest"}), ("who.*",), None)
    own = found(loaded(tmp_path, GUEST + entry(more='methods = ["rag.*"]')))
    assert own.methods == ("rag.*", "who.*")
    callee = found(loaded(tmp_path, GUEST + entry(more='roles = ["callee"]')))
    assert (callee.roles, callee.methods) == (frozenset({"callee"}), None)


@pytest.mark.parametrize("more", ["", 'roles = ["callee"]', 'roles = ["act_as"]', 'roles = ["free"]'])
def test_denied_by_default_is_what_nothing_states(tmp_path: Path, more: str) -> None:
    denying = "deny_by_default = true\n" + ROLES_TEXT
    one = found(loaded(tmp_path, denying + entry(more=more)))
    assert (one.methods, one.subscribe, one.publish) == ((), (), ())
    assert one.may_call("rpc.ping"), "what is for anybody"
    assert not any((one.may_call("text.upper"), one.may_subscribe("a"), one.may_publish("a")))
    some = found(loaded(tmp_path, denying + entry(more='roles = ["reader"]')))
    assert (some.methods, some.subscribe, some.publish) == (("rag.*",), ("jobs.>",), ())
    admin = found(loaded(tmp_path, denying + entry(more='roles = ["admin"]')))
    assert (admin.methods, admin.subscribe, admin.publish) == (None, None, None)


def test_denied_by_default_keeps_what_a_gateways_users_are_given(tmp_path: Path) -> None:
    more = 'roles = ["act_as"]\nmethods = ["of.{principal}.*"]'
    gateway = found(loaded(tmp_path, "deny_by_default = true\n" + entry(more=more)))
    ann = act_as(gateway, ActAs("ann"))
    assert (ann.methods, ann.subscribe) == (("of.ann.*",), ())


SOON = datetime(2100, 1, 1, tzinfo=UTC)
PAST = datetime(2021, 2, 3, tzinfo=UTC)


class Clocks:
    """Both clocks of the process, which goes on only where the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, wall: float | None = None) -> None:
        self.now, self.wall = time.monotonic(), time.time() if wall is None else wall
        self.stands_still = 0.0
        monkeypatch.setattr(time, "monotonic", self._monotonic)
        monkeypatch.setattr(time, "time", self._time)

    def _monotonic(self) -> float:
        now = self.now
        self.now, self.wall, self.stands_still = now + self.stands_still, self.wall + self.stands_still, 0.0
        return now

    def _time(self) -> float:
        return self.wall


def test_expiry_is_put_on_the_monotonic_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(monkeypatch)
    principal = found(loaded(tmp_path, entry(more=f"expires = {SOON.isoformat()}")))
    assert principal.expires == pytest.approx(clocks.now + SOON.timestamp() - clocks.wall, abs=0.001)


def test_a_hub_that_stands_still_between_the_two_clocks_revokes_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = entry(more=f"expires = {SOON.isoformat()}")
    clocks = Clocks(monkeypatch)
    principal = found(loaded(tmp_path, text))
    again = loaded(tmp_path, text)
    clocks.stands_still = 2.0
    assert not again.revoked(principal)
    assert clocks.stands_still == 0.0, "it did stand still"


@pytest.mark.parametrize("value", [PAST.isoformat(), "2020-01-01", "2020-01-01T00:00:00+02:00"])
def test_an_expired_token_is_refused(tmp_path: Path, value: str) -> None:
    tokens = loaded(tmp_path, entry(more=f"expires = {value}"))
    with pytest.raises(RpcError, match="'alice' has expired") as caught:
        tokens.find(TOKEN)
    assert caught.value.code == ErrorCode.UNAUTHENTICATED
    assert TOKEN not in str(caught.value)


def test_a_date_ends_with_the_day_before_in_utc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    today = datetime.now(UTC).date()
    Clocks(monkeypatch, wall=datetime(today.year, today.month, today.day, 12, tzinfo=UTC).timestamp())
    with pytest.raises(RpcError, match="expired"):
        loaded(tmp_path, entry(more=f"expires = {today}")).find(TOKEN)
    assert loaded(tmp_path, entry(more=f"expires = {today + timedelta(days=1)}")).find(TOKEN) is not None


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("tokens = [", "is not TOML"),
        ("other = 1", "`other`"),
        ("tokens = 1", "tokens"),
        ('[[tokens]]\nname = "a"', "missing required field `sha256` - at `$.tokens[0]`"),
        (f'[[tokens]]\nsha256 = "{SHA256}"', "missing required field `name` - at `$.tokens[0]`"),
        (entry(more="colour = 1"), "unknown field `colour` - at `$.tokens[0]`"),
        (entry(more='roles = "admin"'), "$.tokens[0].roles"),
        (entry() + entry("b", OTHER_SHA256, "name2 = 1"), "$.tokens[1]"),
        (entry(more='methods = "rag.*"'), "$.tokens[0].methods"),
        (entry(more='rate = "5"'), "$.tokens[0].rate"),
        (entry(name=""), "tokens[0] ('').name: must be"),
        (entry(name="a\\nb"), ".name: must be 1 to 256 printable"),
        (entry(sha256=SHA256[:-1]), "tokens[0] ('alice').sha256: must be the 64 hex digits"),
        (entry(sha256="g" * 64), "tokens[0] ('alice').sha256"),
        (entry(sha256=TOKEN), "tokens[0] ('alice').sha256"),
        (f'[[tokens]]\nname = "a"\ntoken = "{TOKEN}"', "tokens[0].token: plain tokens are refused"),
        (entry() + entry("bob"), "tokens[1] ('bob').sha256: is already that of 'alice'"),
        (entry() + entry("bob", SHA256.upper()), "tokens[1] ('bob').sha256: is already that of 'alice'"),
        (entry(more='tenant = ""'), "tokens[0] ('alice').tenant: must be 1 to 256 printable characters"),
        (
            entry(more=f'claims = {{a = "{"x" * 5000}"}}'),
            "tokens[0] ('alice').claims: 5008 bytes of JSON; at most 4096",
        ),
        (entry(more='roles = ["nobody"]'), "tokens[0] ('alice').roles: no role 'nobody'"),
        (entry(more='methods = ["a..b"]'), "tokens[0] ('alice').methods: 'a..b' is no pattern"),
        (entry(more='subscribe = ["a.>.b"]'), "tokens[0] ('alice').subscribe: 'a.>.b'"),
        (entry(more='publish = [""]'), "tokens[0] ('alice').publish: ''"),
        (entry(more='subscribe = ["a.{user}"]'), "subscribe: 'a.{user}' has {user}; patterns may have {principal} and"),
        (
            entry(name="a.b", more='publish = ["of.{principal}.>"]'),
            "tokens[0] ('a.b'): the principal 'a.b' cannot stand in the pattern 'of.{principal}.>'",
        ),
        ('default_role = "guest"', "default_role: no role 'guest'; define it as [roles.<name>]"),
        ('default_role = "admin"', "default_role: no role 'admin'"),
        ("deny_by_default = 1", "deny_by_default"),
        (entry(more="rate = 0"), "tokens[0] ('alice').rate: must be"),
        (entry(more="rate = nan"), "tokens[0] ('alice').rate: must be"),
        (entry(more="rate = inf"), "tokens[0] ('alice').rate: must be"),
        (entry(more="expires = 2027-01-01T00:00:00"), "tokens[0] ('alice').expires: needs an offset"),
        (entry(more='expires = "2027-01-01"'), "tokens[0] ('alice').expires: must be a date"),
        (entry(more="expires = 5"), "tokens[0] ('alice').expires: must be a date"),
        ("[roles.reader]\nmethod = []", "unknown field `method`"),
        ('[roles.reader]\nmethods = ["a b"]', "roles.reader.methods: 'a b'"),
        ("[roles.reader]\nrate = -1", "roles.reader.rate"),
        ('[roles.""]', "roles: '' is not a name"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, text: str, names: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ValueError) as caught:
        TokensFile.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert names in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_missing_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        TokensFile.load(tmp_path / "none.toml")
    path = tmp_path / "binary"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not TOML"):
        TokensFile.load(path)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_a_file_that_others_can_open_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, warned: bool
) -> None:
    with caplog.at_level(logging.WARNING):
        TokensFile.load(written(tmp_path, entry(), mode))
    assert ("chmod 600" in caplog.text) is warned
    os.chmod(tmp_path / "tokens.toml", 0o600)


@pytest.mark.parametrize(
    ("after", "revoked", "removed"),
    [
        (ROLES_TEXT + entry(more='roles = ["reader"]'), False, False),
        ("# a comment\n" + ROLES_TEXT + entry("bob", OTHER_SHA256) + entry(more='roles = ["reader"]'), False, False),
        ("", True, True),
        (ROLES_TEXT + entry("bob", OTHER_SHA256, 'roles = ["reader"]'), True, True),
        (ROLES_TEXT + entry(more='roles = ["writer"]'), True, False),
        (ROLES_TEXT + entry("renamed", more='roles = ["reader"]'), True, False),
        (ROLES_TEXT.replace("jobs", "tasks") + entry(more='roles = ["reader"]'), True, False),
        (ROLES_TEXT + entry(more=f'roles = ["reader"]\nexpires = {SOON.isoformat()}'), True, False),
    ],
)
def test_revoked_after_a_change(tmp_path: Path, after: str, revoked: bool, removed: bool) -> None:
    principal = found(loaded(tmp_path, ROLES_TEXT + entry(more='roles = ["reader"]')))
    read_again = loaded(tmp_path, after)
    assert (read_again.revoked(principal), read_again.removed(principal)) == (revoked, removed)


@pytest.mark.parametrize(("hours", "revoked"), [(0, False), (1, False), (-0.5, True), (-3, True)])
def test_an_expiry_that_comes_sooner_revokes(tmp_path: Path, hours: float, revoked: bool) -> None:
    principal = found(loaded(tmp_path, entry(more=f"expires = {SOON.isoformat()}")))
    moved = SOON + timedelta(hours=hours)
    assert loaded(tmp_path, entry(more=f"expires = {moved.isoformat()}")).revoked(principal) is revoked


def test_others_than_its_own_are_not_judged(tmp_path: Path) -> None:
    tokens = loaded(tmp_path, "")
    for other in (ANONYMOUS, Principal("x", credential="jwt:5")):
        assert not tokens.revoked(other)
        assert not tokens.removed(other)
