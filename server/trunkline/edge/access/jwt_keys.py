"""The keys that JWTs are verified with: an HMAC secret, public keys in PEM, or a JSON Web Key Set (RFC 7517)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


class Algorithm(Protocol):
    """The part of PyJWT's ``Algorithm`` that is used here."""

    def prepare_key(self, key: Any) -> Any:
        """The key, parsed and checked."""

    def from_jwk(self, jwk: dict[str, Any]) -> Any:
        """The key of a JSON Web Key."""

    def check_key_length(self, key: Any) -> str | None:
        """What is weak about a key; None where nothing is."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A key ready to verify with, the pinned algorithms that it fits, and its ``kid`` where it has one."""

    material: Any = field(repr=False)
    algorithms: tuple[str, ...]
    kid: str | None = None
    digest: str = ""
    """Of what the key was read from: the same for the same key, whatever set it is in."""


def looks_like_pem(text: str) -> bool:
    """Whether a text contains a PEM header."""
    return "-----BEGIN" in text


def read_keys(
    key: str | None, keys_file: Path | None, algorithms: Mapping[str, Algorithm], key_set: tuple[str, str] | None = None
) -> tuple[VerifyingKey, ...]:
    """All keys that fit the pinned algorithms, at least one.

    Args:
        key: an HMAC secret or PEM; or else
        keys_file: PEM or JWKS.
        key_set: or else, where a JWKS is, and its text.
        algorithms: the pinned ones, by name.

    Raises:
        ValueError: the file cannot be read, there is no such key, or one is private or too short; shows no key.
    """
    where, text = ("TRUNKLINE_JWT_KEY", key) if keys_file is None else (str(keys_file), _read(keys_file))
    where, text = (where, text) if key_set is None else key_set
    assert text is not None
    if key_set is not None:
        found = list(_from_jwks(text, where, algorithms))
    elif looks_like_pem(text):
        found = list(_from_pem(text, where, algorithms))
    elif keys_file is not None:
        found = list(_from_jwks(text, where, algorithms))
    else:
        found = [_fitting(text, where, algorithms)]
    usable = tuple(each for each in found if each.algorithms)
    if not usable:
        raise ValueError(f"{where}: no key for {' or '.join(algorithms)} in it")
    return usable


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is neither PEM nor JSON") from None


def _from_pem(text: str, where: str, algorithms: Mapping[str, Algorithm]) -> Iterator[VerifyingKey]:
    for block in _PEM.finditer(text):
        if "PRIVATE" in block[1]:
            raise ValueError(f"{where}: holds a private key; the hub needs the public one: openssl pkey -pubout")
        if "CERTIFICATE" in block[1]:
            raise ValueError(f"{where}: holds a certificate; the hub needs its public key: openssl x509 -pubkey -noout")
        yield _fitting(block[0], where, algorithms)


def _from_jwks(text: str, where: str, algorithms: Mapping[str, Algorithm]) -> Iterator[VerifyingKey]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{where}: is neither PEM nor JSON") from None
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
        raise ValueError(f'{where}: is no JSON Web Key Set: {{"keys": [...]}}')
    for jwk in members:
        kid, name = jwk.get("kid"), jwk.get("alg")
        if jwk.get("use", "sig") != "sig":
            continue
        if jwk.get("kty") != "oct" and "d" in jwk:
            raise ValueError(f"{where}: key {kid!r:.100} is a private key; the hub needs public ones")
        fitting = {name: algorithms[name]} if name in algorithms else {} if name is not None else algorithms
        yield _fitting(jwk, where, fitting, kid if isinstance(kid, str) else None)


def _fitting(
    source: str | dict[str, Any], where: str, algorithms: Mapping[str, Algorithm], kid: str | None = None
) -> VerifyingKey:
    """The key with the algorithms that it fits, which may be none."""
    material, names = None, []
    for name, algorithm in algorithms.items():
        try:
            material = algorithm.prepare_key(source if isinstance(source, str) else algorithm.from_jwk(source))
        except Exception:  # noqa: S112  PyJWT and cryptography raise many kinds, some of which quote the key
            continue
        if fault := algorithm.check_key_length(material):
            raise ValueError(f"{where}: the key is too weak for {name}: {fault}")
        names.append(name)
    said = source if isinstance(source, str) else json.dumps(source, sort_keys=True)
    digest = hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return VerifyingKey(material, tuple(names), kid, digest)
