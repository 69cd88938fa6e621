"""Bearer tokens that are JWTs (RFC 7519), checked with PyJWT. Algorithms are pinned; no JWT says where keys are.

PyJWT is imported when JWTs are configured and not before: it is the extra ``[auth]``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from trunkline import defaults
from trunkline.edge.access.expiry import on_monotonic_clock
from trunkline.edge.access.grants import PATTERN_KEYS, Grants, Roles
from trunkline.edge.access.jwt_keys import VerifyingKey, looks_like_pem, read_keys
from trunkline.hub.principal import Principal
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.principals import DEFAULT_TENANT, fault_of_claims, is_name

JWT_CREDENTIAL: Final = "jwt:"
"""What the credentials of principals by JWT begin with; ``jti`` follows, or a digest where the JWT has none."""

_NEVER: Final = 2**40
"""Seconds since 1970; a larger ``exp`` might not fit into a float."""

_REASONS: Final = {
    "ExpiredSignatureError": "it has expired",
    "ImmatureSignatureError": "it is not valid yet (nbf or iat); compare the clocks",
    "InvalidAudienceError": "it is for another audience (aud)",
    "InvalidIssuerError": "it is from another issuer (iss)",
    "InvalidSubjectError": "its sub is no string",
    "InvalidSignatureError": "its signature is not valid",
}
"""By the name of PyJWT's exception, which is not imported here. PyJWT's own texts are not passed on: they may quote
what the peer sent."""


_NO_KEY: Final = "it is signed with a key this hub does not have"


@dataclass(frozen=True, slots=True)
class JwtOptions:
    """The settings for JWTs.

    Attributes:
        key: an HMAC secret, or public keys in PEM. Exactly one of this and the next two.
        keys_file: public keys in PEM, or a JSON Web Key Set (RFC 7517).
        keys_url: where a JSON Web Key Set is.
        algorithms: the only ones accepted; empty stands for HS256 where ``key`` is a secret.
        audience: what ``aud`` has to contain.
        issuer: what ``iss`` has to be; None accepts any.
        tenant_claim: the claim that names the tenant.
        claims: the claims that methods are told.
        leeway: seconds.
    """

    key: str | None = field(default=None, repr=False)
    keys_file: Path | None = None
    keys_url: str | None = None
    algorithms: tuple[str, ...] = ()
    audience: str | None = None
    issuer: str | None = None
    tenant_claim: str = "tenant"
    claims: tuple[str, ...] = ()
    leeway: float = defaults.JWT_LEEWAY


class JwtTokens:
    """Verifies JWTs and turns them into principals. Immutable; for new keys make another one.

    Args:
        options: what the settings say.
        key_set: the text of the key set at ``options.keys_url``.

    Raises:
        ValueError: PyJWT is missing, or the options cannot work together or would not be safe.
    """

    def __init__(self, options: JwtOptions, key_set: str | None = None) -> None:
        try:
            import jwt
        except ImportError as error:
            raise ValueError("JWTs need PyJWT: pip install 'trunkline[auth]'") from error
        self._jwt = jwt
        if not options.audience:
            raise ValueError(
                "TRUNKLINE_JWT_AUDIENCE is not set; without it this hub would accept JWTs issued for other services"
            )
        self._options = options
        self._algorithms = pinned_algorithms(options)
        available = jwt.algorithms.get_default_algorithms()
        for name in self._algorithms:
            if name not in available:
                raise ValueError(f"TRUNKLINE_JWT_ALGORITHMS: {name!r:.40} is unknown, or needs trunkline[auth]")
        pinned = {name: available[name] for name in self._algorithms}
        at = None if options.keys_url is None or key_set is None else (options.keys_url, key_set)
        self._keys = read_keys(options.key, options.keys_file, pinned, at)

    def has_key(self, digest: str) -> bool:
        """Whether a key is still among those that JWTs are verified with."""
        return any(key.digest == digest for key in self._keys)

    def has_kid(self, kid: str) -> bool:
        """Whether a key is called so."""
        return any(key.kid == kid for key in self._keys)

    def principal(self, token: str, roles: Roles) -> Principal:
        """The principal of a JWT. It expires when the token does, leeway included.

        Args:
            token: the JWT.
            roles: those the hub knows; other names in the token's ``roles`` grant nothing.

        Raises:
            RpcError: 6001; the message says why the token is refused, and shows nothing of it.
        """
        claims, key = self._claims(token)
        name, jti = claims["sub"], claims.get("jti")
        if not is_name(name):
            raise _refused("its sub is no name (1 to 256 printable characters)")
        digest = hashlib.sha256(token.encode()).hexdigest()[:16]
        expires = on_monotonic_clock(min(int(claims["exp"]), _NEVER) + self._options.leeway)
        try:
            return roles.principal(
                name,
                _role_names(claims),
                _own_grants(claims),
                expires=expires,
                credential=f"{JWT_CREDENTIAL}{jti if isinstance(jti, str) and is_name(jti) else digest}",
                tenant=_tenant(claims, self._options.tenant_claim),
                claims=_told(claims, self._options.claims),
                key=key,
            )
        except ValueError as error:
            raise _refused(f"its names do not fit its rights: {error}") from None

    def _claims(self, token: str) -> tuple[dict[str, Any], str]:
        try:
            header = self._jwt.get_unverified_header(token)
            keys = self._candidates(header.get("alg"), header.get("kid"))
            return self._verified(token, keys)
        except self._jwt.MissingRequiredClaimError as error:
            raise _refused(f"it has no {error.claim}") from None
        except self._jwt.PyJWTError as error:
            raise _refused(_REASONS.get(type(error).__name__, "it is malformed")) from None
        except (ValueError, TypeError, ArithmeticError, RecursionError):
            # What a peer sends must not look like a fault of the hub, whatever a release of PyJWT lets through.
            raise _refused("it is malformed") from None

    def _candidates(self, algorithm: object, kid: object) -> list[VerifyingKey]:
        if algorithm not in self._algorithms:
            raise _refused(f"it is not signed with {' or '.join(self._algorithms)}")
        keys = [key for key in self._keys if algorithm in key.algorithms and (not (kid and key.kid) or kid == key.kid)]
        if not keys and isinstance(kid, str):
            raise UnknownKeyError(kid)
        if not keys:
            raise _refused(_NO_KEY)
        return keys

    def _verified(self, token: str, keys: list[VerifyingKey]) -> tuple[dict[str, Any], str]:
        options = self._options
        for number, key in enumerate(keys, 1):
            try:
                claims = self._jwt.decode(
                    token,
                    key.material,
                    algorithms=list(key.algorithms),
                    audience=options.audience,
                    issuer=options.issuer,
                    leeway=options.leeway,
                    options={"require": ["exp", "sub", "aud"]},
                )
                return claims, key.digest
            except self._jwt.InvalidSignatureError:
                if number == len(keys):
                    raise
        raise AssertionError("there is a candidate")


def pinned_algorithms(options: JwtOptions) -> tuple[str, ...]:
    """The algorithms to accept, checked to be safe with each other and with the key.

    Raises:
        ValueError: they are not, or it is unclear which they are.
    """
    if [options.key, options.keys_file, options.keys_url].count(None) != 2:
        raise ValueError("set one of TRUNKLINE_JWT_KEY, TRUNKLINE_JWT_KEYS_FILE and TRUNKLINE_JWT_KEYS_URL")
    is_secret = options.key is not None and not looks_like_pem(options.key)
    algorithms = options.algorithms or (("HS256",) if is_secret else ())
    if not algorithms:
        raise ValueError("TRUNKLINE_JWT_ALGORITHMS is not set; name what the issuer signs with, as RS256 or ES256")
    if any(name.lower() == "none" for name in algorithms):
        raise ValueError("TRUNKLINE_JWT_ALGORITHMS: 'none' means unsigned tokens, which anybody can make")
    symmetric = {name.startswith("HS") for name in algorithms}
    if len(symmetric) > 1:
        raise ValueError(
            "TRUNKLINE_JWT_ALGORITHMS mixes HMAC with public keys: whoever knows the public key could sign with it as "
            "an HMAC secret; name one kind"
        )
    if options.keys_url is not None and True in symmetric:
        raise ValueError(f"TRUNKLINE_JWT_KEYS_URL has public keys; they do not go with {algorithms[0]:.40}")
    if options.key is not None and is_secret not in symmetric:
        kind = "a secret" if is_secret else "a public key, which is no secret"
        raise ValueError(f"TRUNKLINE_JWT_KEY is {kind}; that does not go with {algorithms[0]:.40}")
    return algorithms


def looks_like_jwt(token: str) -> bool:
    """Whether a token has a JWT's three parts."""
    return token.count(".") == 2


class UnknownKeyError(RpcError):
    """The refusal of a JWT whose ``kid`` is no key of this hub."""

    def __init__(self, kid: str) -> None:
        super().__init__(ErrorCode.UNAUTHENTICATED, f"the JWT is refused: {_NO_KEY}")
        self.kid = kid[:256]


def _refused(reason: str) -> RpcError:
    return RpcError(ErrorCode.UNAUTHENTICATED, f"the JWT is refused: {reason}")


def _role_names(claims: dict[str, Any]) -> list[str]:
    names = claims.get("roles", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _refused("its roles are no list of strings")
    return names


def _tenant(claims: dict[str, Any], named: str) -> str:
    tenant = claims.get(named, DEFAULT_TENANT)
    if not isinstance(tenant, str) or not is_name(tenant):
        raise _refused(f"its {named:.100} is no name of a tenant (1 to 256 printable characters)")
    return tenant


def _told(claims: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    told = {name: claims[name] for name in names if name in claims}
    if fault := fault_of_claims(told):
        raise _refused(f"its {fault}")
    return told


def _own_grants(claims: dict[str, Any]) -> Grants:
    stated = {key: claims[key] for key in PATTERN_KEYS if key in claims}
    try:
        grants = msgspec.convert(stated, Grants)
    except msgspec.ValidationError:
        raise _refused(f"its {', '.join(PATTERN_KEYS)} have to be lists of patterns") from None
    if fault := grants.fault():
        raise _refused(f"its {fault.partition(':')[0]} hold what is no pattern")
    return grants
