"""Static tokens, known by their SHA-256 only: a TOML file of the principals they belong to, and their rights.

.. code-block:: toml

    default_role = "reader"
    deny_by_default = true

    [roles.reader]
    methods = ["rag.*", "vectors.search"]
    subscribe = ["orders.>"]
    publish = []
    rate = 50

    [[tokens]]
    name = "dashboard"
    sha256 = "<hex of the token's SHA-256>"
    roles = ["reader"]
    tenant = "acme"
    claims = {team = "sales"}
    expires = 2027-01-31T00:00:00Z

A token is found by looking its digest up in a dictionary. How long that takes depends on the digest, but does not help
an attacker to guess: without the token its digest cannot be chosen digit by digit, and tokens are random
(:func:`new_token`), so that there is no dictionary to try either.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import time
import tomllib
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from pathlib import Path
from typing import Any, Final

import msgspec

from trunkline.edge.access.expiry import on_monotonic_clock
from trunkline.edge.access.grants import Grants, Roles
from trunkline.hub.principal import Principal
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.principals import DEFAULT_TENANT, fault_of_claims, is_name

_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
_CREDENTIAL: Final = "file:"
_CLOCK_SLACK: Final = 1.0
"""Seconds by which an expiry may seem to move because the wall clock was adjusted."""

logger = logging.getLogger("trunkline.edge")


def new_token() -> tuple[str, str]:
    """A token of 256 random bits, and the hex of its SHA-256 for the file."""
    token = secrets.token_urlsafe(32)
    return token, digest_of(token)


def digest_of(token: str) -> str:
    """The SHA-256 of a token, in hex."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


_NO_TOKEN: Final = digest_of("")


class _Entry(Grants, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: str
    sha256: str
    roles: tuple[str, ...] = ()
    expires: Any = None
    tenant: str = DEFAULT_TENANT
    claims: dict[str, Any] = msgspec.field(default_factory=dict)


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tokens: tuple[_Entry, ...] = ()
    roles: dict[str, Grants] = {}
    default_role: str | None = None
    deny_by_default: bool = False


@dataclass(frozen=True, slots=True)
class _Admission:
    principal: Principal
    expires_at: float | None
    """Wall clock, in seconds since the epoch."""

    def expires(self) -> float | None:
        """The expiry on the monotonic clock, as of now; None for never."""
        return None if self.expires_at is None else on_monotonic_clock(self.expires_at)


class TokensFile:
    """The tokens and roles of one reading of the file. Immutable; to read the file again use :meth:`load`."""

    def __init__(self, roles: Roles, admissions: dict[str, _Admission]) -> None:
        self.roles = roles
        self._by_digest = admissions
        self._by_credential = {entry.principal.credential: entry for entry in admissions.values()}
        self._by_name: defaultdict[str, list[_Admission]] = defaultdict(list)
        for entry in admissions.values():
            self._by_name[entry.principal.name].append(entry)

    def __len__(self) -> int:
        return len(self._by_digest)

    @classmethod
    def load(cls, path: Path) -> TokensFile:
        """Read and check a tokens file.

        Raises:
            ValueError: the file cannot be read, or a value is not valid; the message names file, entry and key, and
                shows no value that might be a token.
        """
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode & 0o777
                raw = tomllib.load(file)
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
        except ValueError as error:  # tomllib's own, and text that is not UTF-8
            raise ValueError(f"{path}: is not TOML: {error}") from None
        if mode & 0o077:
            logger.warning(
                "other users can read the tokens file; run chmod 600 on it",
                extra={"path": str(path), "mode": oct(mode)},
            )
        try:
            return cls._from_document(raw)
        except ValueError as error:  # msgspec's, which name the key, are ValueErrors
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def _from_document(cls, raw: dict[str, Any]) -> TokensFile:
        _refuse_plain_tokens(raw)
        document = msgspec.convert(raw, _Document)
        for name, grants in document.roles.items():
            if not is_name(name):
                raise ValueError(f"roles: {name!r:.100} is not a name (1 to 256 printable characters)")
            if fault := grants.fault():
                raise ValueError(f"roles.{name}.{fault}")
        roles = Roles(document.roles, document.default_role, deny_by_default=document.deny_by_default)
        admissions: dict[str, _Admission] = {}
        for index, entry in enumerate(document.tokens):
            where = f"tokens[{index}] ({entry.name!r:.100})"
            _check(entry, where, roles)
            digest = entry.sha256.lower()
            if digest in admissions:
                raise ValueError(f"{where}.sha256: is already that of {admissions[digest].principal.name!r:.100}")
            credential = _CREDENTIAL + digest[:16]
            try:
                principal = roles.principal(
                    entry.name, entry.roles, entry, credential=credential, tenant=entry.tenant, claims=entry.claims
                )
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
            admissions[digest] = _Admission(principal, _expiry(entry.expires, where))
        return cls(roles, admissions)

    def entries(self) -> list[tuple[Principal, float | None]]:
        """The principal of each token, and when it expires, in seconds since 1970; None for never."""
        return [(each.principal, each.expires_at) for each in self._by_digest.values()]

    def find(self, token: str) -> Principal | None:
        """The principal a token belongs to; None where the token is not in the file.

        Raises:
            RpcError: 6001, the token has expired.
        """
        admission = self._by_digest.get(digest_of(token))
        if admission is None:
            return None
        if admission.expires_at is not None and admission.expires_at <= time.time():
            raise RpcError(ErrorCode.UNAUTHENTICATED, f"the token of {admission.principal.name!r} has expired")
        expires = admission.expires()
        return admission.principal if expires is None else replace(admission.principal, expires=expires)

    def named(self, name: str, tenant: str | None) -> Principal | None:
        """The principal of this name, for whom acts as it; None where the file has no entry of it.

        Args:
            tenant: of the principal; None for any.

        Raises:
            RpcError: 6002, its entries have expired, or have different rights.
        """
        entries = [each for each in self._by_name.get(name, ()) if tenant in (None, each.principal.tenant)]
        if not entries:
            return None
        valid = [each for each in entries if each.expires_at is None or each.expires_at > time.time()]
        first, *others = {replace(each.principal, credential="") for each in valid or entries}
        if not valid or others:
            why = "has several entries in the tokens file, with different rights" if valid else "has an expired token"
            raise RpcError(ErrorCode.FORBIDDEN, f"nobody may act as {name!r}, which {why}")
        return first

    def removed(self, principal: Principal) -> bool:
        """Whether a principal authenticated by an entry that is not in the file any more."""
        return principal.credential.startswith(_CREDENTIAL) and principal.credential not in self._by_credential

    def revoked(self, principal: Principal) -> bool:
        """Whether a principal that authenticated by an earlier reading has to be disconnected.

        True where the entry is gone, grants other rights now, or ends sooner; False for principals that did not
        authenticate by a tokens file.
        """
        if not principal.credential.startswith(_CREDENTIAL):
            return False
        admission = self._by_credential.get(principal.credential)
        if admission is None or admission.principal != replace(principal, expires=None):
            return True
        expires = admission.expires()
        return expires is not None and (principal.expires is None or expires < principal.expires - _CLOCK_SLACK)


def _refuse_plain_tokens(raw: dict[str, Any]) -> None:
    entries = raw.get("tokens")
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict) and "token" in entry:
            raise ValueError(
                f"tokens[{index}].token: plain tokens are refused, so that the file holds no secret; "
                'replace it by sha256 = "<hex of the token\'s SHA-256>"'
            )


def _check(entry: _Entry, where: str, roles: Roles) -> None:
    if not is_name(entry.name):
        raise ValueError(f"{where}.name: must be 1 to 256 printable characters")
    if not _SHA256.fullmatch(entry.sha256):
        # The value is not shown: it may be the token itself.
        raise ValueError(f"{where}.sha256: must be the 64 hex digits of the token's SHA-256")
    if entry.sha256.lower() == _NO_TOKEN:
        raise ValueError(f"{where}.sha256: is that of an empty token, which everybody has")
    if unknown := roles.unknown(entry.roles):
        raise ValueError(f"{where}.roles: no role {unknown[0]!r:.100}; define it as [roles.<name>]")
    if not is_name(entry.tenant):
        raise ValueError(f"{where}.tenant: must be 1 to 256 printable characters")
    if fault := entry.fault() or fault_of_claims(entry.claims):
        raise ValueError(f"{where}.{fault}")


def _expiry(value: Any, where: str) -> float | None:
    """An expiry in seconds since 1970. A date is its first moment in UTC: the token ends with the day before."""
    if value is None:
        return None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{where}.expires: needs an offset, as in 2027-01-31T00:00:00Z")
        return value.timestamp()
    if isinstance(value, date):
        return datetime.combine(value, time_of_day(), UTC).timestamp()
    raise ValueError(
        f"{where}.expires: must be a date, or a time with an offset, as in 2027-01-31T00:00:00Z (no quotes)"
    )
