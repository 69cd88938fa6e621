from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from trunkline.edge.access.grants import Grants, Roles
from trunkline.edge.access.jwt_tokens import JwtOptions, JwtTokens, looks_like_jwt
from trunkline.hub.principal import Principal
from trunkline_protocol.errors import ErrorCode, RpcError

SECRET = "a secret that has at least 32 bytes"
OTHER_SECRET = "another secret with at least 32 bytes"
ROLES = Roles({"reader": Grants(methods=("rag.*",), rate=5)})

RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def public_pem(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def private_pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def claims(**changed: Any) -> dict[str, Any]:
    stated = {"sub": "alice", "aud": "trunkline", "exp": int(time.time()) + 86_400, **changed}
    return {name: value for name, value in stated.items() if value is not ...}


def signed(key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **changed: Any) -> str:
    return jwt.encode(claims(**changed), key, algorithm, headers)


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def hand_made(header: Any, payload: Any, key: bytes) -> str:
    """What an attacker, or PyJWT's caution, would not let us make with PyJWT."""
    body = f"{part(header)}.{part(payload)}"
    return f"{body}.{part(hmac.new(key, body.encode(), hashlib.sha256).digest())}"


def verifier(**options: Any) -> JwtTokens:
    return JwtTokens(JwtOptions(**{"key": SECRET, "audience": "trunkline", **options}))


def refusal(token: str, **options: Any) -> str:
    with pytest.raises(RpcError) as caught:
        verifier(**options).principal(token, ROLES)
    error = caught.value
    assert error.code == ErrorCode.UNAUTHENTICATED
    assert error.message.startswith("the JWT is refused: it")
    for piece in (token, *(part for part in token.split(".") if len(part) > 8)):
        assert piece not in repr(error.to_wire())
    assert error.__cause__ is None
    return error.message


def admitted(token: str, **options: Any) -> Principal:
    return verifier(**options).principal(token, ROLES)


def test_a_good_one() -> None:
    principal = admitted(signed(jti="id-1"))
    assert (principal.name, principal.roles, principal.methods) == ("alice", frozenset(), None)
    assert principal.credential == "jwt:id-1"


def test_tenant_and_claims_are_those_that_settings_name() -> None:
    plain = admitted(signed())
    assert (plain.tenant, plain.claims) == ("default", {})
    told = admitted(signed(tenant="acme", team="blue", secret="x"), claims=("team", "absent"))
    assert (told.tenant, told.claims) == ("acme", {"team": "blue"})
    assert admitted(signed(tenant="acme", org="umbrella"), tenant_claim="org").tenant == "umbrella"


@pytest.mark.parametrize("tenant", [7, None, "", "a\nb", ["acme"], "x" * 257])
def test_a_tenant_that_is_no_name_is_refused(tenant: Any) -> None:
    assert "no name of a tenant" in refusal(signed(tenant=tenant))


def test_claims_that_every_call_would_carry_are_bounded() -> None:
    assert "at most 4096" in refusal(signed(team="x" * 5000), claims=("team",))


def test_without_jti_the_credential_is_a_digest_and_never_the_token() -> None:
    token = signed()
    credential = admitted(token).credential
    assert credential == "jwt:" + hashlib.sha256(token.encode()).hexdigest()[:16]


@pytest.mark.parametrize("leeway", [0.0, 30.0])
def test_it_expires_with_the_token_and_the_leeway(leeway: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now, wall = time.monotonic(), time.time()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "time", lambda: wall)
    exp = int(wall) + 60
    expires = admitted(signed(exp=exp), leeway=leeway).expires
    assert expires == pytest.approx(now + exp + leeway - wall, abs=0.001)


def test_an_exp_beyond_all_floats_is_far_away() -> None:
    token = hand_made({"alg": "HS256"}, claims(exp=10**400), SECRET.encode())
    expires = admitted(token).expires
    assert expires is not None
    assert expires > time.monotonic() + 10**9


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"exp": int(time.time()) - 31}, "it has expired"),
        ({"exp": 0}, "it has expired"),
        ({"exp": ...}, "it has no exp"),
        ({"exp": None}, "it has no exp"),
        ({"exp": "soon"}, "it is malformed"),
        ({"nbf": int(time.time()) + 86_400}, "it is not valid yet"),
        ({"iat": int(time.time()) + 86_400}, "it is not valid yet"),
        ({"aud": "billing"}, "it is for another audience"),
        ({"aud": ["billing", "trunkline2"]}, "it is for another audience"),
        ({"aud": [7]}, "it is for another audience"),
        ({"aud": ...}, "it has no aud"),
        ({"aud": ""}, "it has no aud"),
        ({"sub": ...}, "it has no sub"),
        ({"sub": ""}, "its sub is no name"),
        ({"sub": "a\nb"}, "its sub is no name"),
        ({"sub": "\ud800"}, "its sub is no name"),
        ({"sub": "x" * 257}, "its sub is no name"),
        ({"roles": "admin"}, "its roles are no list"),
        ({"roles": [1]}, "its roles are no list"),
        ({"roles": None}, "its roles are no list"),
        ({"methods": "rag.*"}, "lists of patterns"),
        ({"subscribe": [1]}, "lists of patterns"),
        ({"methods": ["a..b"]}, "its methods hold what is no pattern"),
        ({"publish": ["a.>.b"]}, "its publish hold what is no pattern"),
    ],
)
def test_each_claim_that_does_not_do(changed: dict[str, Any], reason: str) -> None:
    assert reason in refusal(signed(**changed))


def test_a_sub_that_is_no_string() -> None:
    assert "its sub is no string" in refusal(hand_made({"alg": "HS256"}, claims(sub=7), SECRET.encode()))


def test_an_infinite_exp() -> None:
    payload = json.dumps(claims()).replace(str(claims()["exp"]), "1e999").encode()
    assert "it is malformed" in refusal(hand_made({"alg": "HS256"}, payload, SECRET.encode()))


def test_the_leeway_is_granted() -> None:
    now = int(time.time())
    admitted(signed(exp=now - 20, nbf=now + 20))
    assert "expired" in refusal(signed(exp=now - 5), leeway=0.0)


def test_one_of_several_audiences_is_enough() -> None:
    admitted(signed(aud=["billing", "trunkline"]))


def test_the_issuer() -> None:
    admitted(signed(iss="https://id.example"), issuer="https://id.example")
    admitted(signed(iss="https://id.example"))
    assert "it is from another issuer" in refusal(signed(iss="https://evil.example"), issuer="https://id.example")
    assert "it has no iss" in refusal(signed(), issuer="https://id.example")


def test_roles_and_patterns() -> None:
    assert admitted(signed(roles=["admin"])).roles == {"admin"}
    reader = admitted(signed(roles=["reader", "unknown"]))
    assert reader.roles == {"reader"}
    assert (reader.methods, reader.rate, reader.publish) == (("rag.*",), 5, ())
    assert admitted(signed(roles=["unknown"])).methods == ()
    own = admitted(signed(methods=["debug.*"], subscribe=["jobs.>"], publish=[]))
    assert (own.methods, own.subscribe, own.publish) == (("debug.*",), ("jobs.>",), ())


def test_patterns_are_filled_with_sub_and_tenant() -> None:
    user = admitted(signed(sub="ann", tenant="acme", subscribe=["users.{principal}.>", "{tenant}.>"]))
    assert user.subscribe == ("users.ann.>", "acme.>")
    reason = "its names do not fit its rights: the principal 'a.b' cannot stand in the pattern 'users.{principal}.>'"
    assert reason in refusal(signed(sub="a.b", subscribe=["users.{principal}.>"]))
    assert "subscribe hold what is no pattern" in refusal(signed(subscribe=["users.{user}.>"]))


def tampered(token: str) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{part(claims(sub='root', roles=['admin']))}.{signature}"


@pytest.mark.parametrize(
    "token",
    [
        signed(OTHER_SECRET),
        tampered(signed()),
        signed()[:-2],
        signed().rpartition(".")[0] + ".",
        signed().rpartition(".")[0] + "." + part(b"x" * 32),
    ],
)
def test_signatures_that_do_not_fit(token: str) -> None:
    assert refusal(token) in (
        "the JWT is refused: its signature is not valid",
        "the JWT is refused: it is malformed",
    )


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", None, "HS512", "RS256", ["HS256"], {"a": 1}, 5])
@pytest.mark.parametrize("signature", ["", "eA"])
def test_another_alg_is_not_accepted(alg: Any, signature: str) -> None:
    token = f"{part({'alg': alg, 'typ': 'JWT'})}.{part(claims())}.{signature}"
    assert "it is not signed with HS256" in refusal(token)


def test_no_alg_at_all() -> None:
    assert "it is not signed with HS256" in refusal(f"{part({})}.{part(claims())}.eA")


@pytest.mark.parametrize("secret", [public_pem(RSA_KEY), public_pem(RSA_KEY).strip(), public_pem(RSA_KEY).encode()])
@pytest.mark.parametrize("alg", ["HS256", "RS256"])
def test_the_public_key_as_hmac_secret_opens_nothing(secret: str | bytes, alg: str) -> None:
    raw = secret if isinstance(secret, bytes) else secret.encode()
    forged = hand_made({"alg": alg}, claims(sub="root", roles=["admin"]), raw)
    reason = refusal(forged, key=public_pem(RSA_KEY), algorithms=("RS256",))
    assert "it is not signed with RS256" in reason or "its signature is not valid" in reason


def test_an_unknown_critical_header_is_refused() -> None:
    assert "it is malformed" in refusal(signed(headers={"crit": ["b65"], "b65": True}))


def test_a_detached_payload_is_refused() -> None:
    token = hand_made({"alg": "HS256", "b64": False, "crit": ["b64"]}, claims(), SECRET.encode())
    assert "it is malformed" in refusal(token)


@pytest.mark.parametrize(
    "token",
    [
        "..",
        "a.b.c",
        "e30.e30.e30",
        "é.b.c",
        "\ud800.b.c",
        f"{part(b'[]')}.{part({})}.eA",
        f"{part(b'[' * 100_000)}.{part({})}.eA",
        f"{part({'alg': 'HS256', 'kid': 5})}.{part({})}.eA",
        hand_made({"alg": "HS256"}, b"[" * 100_000, SECRET.encode()),
        hand_made({"alg": "HS256"}, b"[]", SECRET.encode()),
        hand_made({"alg": "HS256"}, b"\xff", SECRET.encode()),
        hand_made({"alg": "HS256"}, b"1" * 5000, SECRET.encode()),
    ],
)
def test_rubbish_is_malformed_and_no_crash(token: str) -> None:
    reason = refusal(token)
    assert "malformed" in reason or "not signed with" in reason


@given(st.text(), st.text(), st.text())
def test_any_three_parts_are_refused(header: str, payload: str, signature: str) -> None:
    with pytest.raises(RpcError):
        verifier().principal(f"{header}.{payload}.{signature}", ROLES)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(RSA_KEY, "RS256"), (RSA_KEY, "PS384"), (EC_KEY, "ES256"), (ED_KEY, "EdDSA")],
    ids=["RS256", "PS384", "ES256", "EdDSA"],
)
def test_public_keys(key: Any, algorithm: str, tmp_path: Path) -> None:
    pem = tmp_path / "key.pem"
    pem.write_text("a comment\n" + public_pem(key))
    for options in ({"key": public_pem(key)}, {"key": None, "keys_file": pem}):
        assert admitted(signed(key, algorithm), algorithms=(algorithm,), **options).name == "alice"
    if algorithm == "RS256":
        assert "signature" in refusal(signed(OTHER_RSA_KEY, algorithm), key=public_pem(key), algorithms=("RS256",))


def test_a_file_of_several_keys_for_the_time_of_a_change(tmp_path: Path) -> None:
    path = tmp_path / "keys.pem"
    path.write_text(public_pem(OTHER_RSA_KEY) + public_pem(EC_KEY) + public_pem(RSA_KEY))
    options = {"key": None, "keys_file": path, "algorithms": ("RS256", "ES256")}
    admitted(signed(RSA_KEY, "RS256"), **options)
    admitted(signed(OTHER_RSA_KEY, "RS256"), **options)
    admitted(signed(EC_KEY, "ES256"), **options)
    assert "signature" in refusal(signed(rsa.generate_private_key(65537, 2048), "RS256"), **options)


def jwk(key: Any, algorithm: str, **more: Any) -> dict[str, Any]:
    return {**jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True), **more}


@pytest.fixture
def key_set(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    keys = [
        jwk(OTHER_RSA_KEY, "RS256", kid="old", alg="RS256"),
        jwk(RSA_KEY, "RS256", kid="new"),
        jwk(RSA_KEY, "RS256", kid="for encryption", use="enc"),
        jwk(EC_KEY, "ES256", kid="curve", alg="ES256"),
        {"kty": "martian", "kid": "unknown"},
    ]
    path.write_text(json.dumps({"keys": keys}))
    return path


def test_a_key_set(key_set: Path) -> None:
    options = {"key": None, "keys_file": key_set, "algorithms": ("RS256",)}
    admitted(signed(OTHER_RSA_KEY, "RS256", {"kid": "old"}), **options)
    admitted(signed(RSA_KEY, "RS256", {"kid": "new"}), **options)
    admitted(signed(RSA_KEY, "RS256"), **options)
    assert "signature" in refusal(signed(RSA_KEY, "RS256", {"kid": "old"}), **options)
    for kid in ("for encryption", "unknown", "never heard of"):
        assert "a key this hub does not have" in refusal(signed(RSA_KEY, "RS256", {"kid": kid}), **options)
    assert "it is not signed with RS256" in refusal(signed(EC_KEY, "ES256", {"kid": "curve"}), **options)


def test_a_key_is_used_with_its_own_algorithm_only(key_set: Path) -> None:
    options = {"key": None, "keys_file": key_set, "algorithms": ("RS256", "RS512", "ES256")}
    admitted(signed(RSA_KEY, "RS512", {"kid": "new"}), **options)
    assert "does not have" in refusal(signed(OTHER_RSA_KEY, "RS512", {"kid": "old"}), **options)


def test_symmetric_keys_in_a_key_set(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [{"kty": "oct", "kid": "s", "k": part(SECRET.encode())}]}))
    admitted(signed(), key=None, keys_file=path, algorithms=("HS256",))
    with pytest.raises(ValueError, match="no key for RS256"):
        verifier(key=None, keys_file=path, algorithms=("RS256",))


WEAK_RSA = """-----BEGIN PUBLIC KEY-----
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf
9Cnzj4p4WGeKLs1Pt8QuKUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ==
-----END PUBLIC KEY-----"""


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"audience": None}, "TRUNKLINE_JWT_AUDIENCE is not set"),
        ({"audience": ""}, "TRUNKLINE_JWT_AUDIENCE is not set"),
        ({"key": None}, "set one of TRUNKLINE_JWT_KEY, TRUNKLINE_JWT_KEYS_FILE and"),
        ({"key": None, "keys_url": "https://id.example", "algorithms": ("HS256",)}, "public keys; they do not go with"),
        ({"keys_file": Path("x")}, "set one of"),
        ({"algorithms": ("none",)}, "'none' means unsigned tokens"),
        ({"algorithms": ("HS256", "None")}, "'none' means unsigned tokens"),
        ({"algorithms": ("HS256", "RS256")}, "mixes HMAC with public keys"),
        ({"algorithms": ("RS256",)}, "is a secret; that does not go with RS256"),
        ({"key": public_pem(RSA_KEY), "algorithms": ("HS256",)}, "is a public key, which is no secret"),
        ({"key": public_pem(RSA_KEY), "algorithms": ("RS256", "HS256")}, "mixes HMAC"),
        ({"key": public_pem(RSA_KEY)}, "TRUNKLINE_JWT_ALGORITHMS is not set"),
        ({"algorithms": ("HS257",)}, "'HS257' is unknown"),
        ({"key": "x" * 31}, "too weak for HS256"),
        ({"key": "x" * 63, "algorithms": ("HS256", "HS512")}, "too weak for HS512"),
        ({"key": ""}, "no key for HS256"),
        ({"key": WEAK_RSA, "algorithms": ("RS256",)}, "too weak for RS256"),
        ({"key": public_pem(EC_KEY), "algorithms": ("RS256",)}, "no key for RS256"),
        ({"key": public_pem(EC_KEY), "algorithms": ("ES384",)}, "no key for ES384"),
        ({"key": private_pem(RSA_KEY), "algorithms": ("RS256",)}, "holds a private key"),
        ({"key": "-----BEGIN PUBLIC KEY-----\ntorn", "algorithms": ("RS256",)}, "no key for RS256"),
        (
            {"key": "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----", "algorithms": ("RS256",)},
            "holds a certificate",
        ),
    ],
)
def test_options_that_cannot_work_are_refused_at_start(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        verifier(**options)
    key = options.get("key") or SECRET
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{", "is neither PEM nor JSON"),
        (b"\xff\xfe", "is neither PEM nor JSON"),
        (b"[" * 100_000, "is neither PEM nor JSON"),
        (b"[]", "is no JSON Web Key Set"),
        (b'{"keys": [1]}', "is no JSON Web Key Set"),
        (b'{"keys": []}', "no key for RS256"),
        (b'{"keys": [{}, {"kty": "RSA"}, {"kty": "RSA", "n": 5, "e": []}]}', "no key for RS256"),
        (json.dumps({"keys": [{"kty": "RSA", "kid": "k", "d": "private"}]}).encode(), "'k' is a private key"),
        (private_pem(EC_KEY).encode(), "holds a private key"),
    ],
)
def test_key_files_that_cannot_work(tmp_path: Path, text: bytes, says: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=says) as caught:
        verifier(key=None, keys_file=path, algorithms=("RS256",))
    assert str(path) in str(caught.value)


def test_a_missing_key_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.pem: cannot be read: No such file"):
        verifier(key=None, keys_file=tmp_path / "none.pem", algorithms=("RS256",))


def test_options_do_not_show_the_key() -> None:
    assert SECRET not in repr(JwtOptions(key=SECRET))
    assert SECRET not in repr(verifier().__dict__)


def test_what_looks_like_a_jwt() -> None:
    assert looks_like_jwt(signed())
    assert not looks_like_jwt("a.b")
    assert not looks_like_jwt("a.b.c.d")


def test_nothing_of_a_token_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        refusal(signed(exp=0))
        refusal(tampered(signed()))
        admitted(signed())
    assert not caplog.records


def test_without_pyjwt_the_message_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['jwt'] = None\n"
        "from trunkline.edge.access.jwt_tokens import JwtOptions, JwtTokens\n"
        "try: JwtTokens(JwtOptions(key='x' * 32, audience='a'))\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'trunkline[auth]'" in done.stdout
