"""The audit log of a hub, and what it says beside calls: who was not let in, and what a reload changed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from trunkline.config import Settings
from trunkline.edge.access.tokens import digest_of
from trunkline.edge.refusal import Refusal
from trunkline.hosting.runtime import ConfigurationError
from trunkline.hub.connection import Connection
from trunkline.observe.audit import AuditLog
from trunkline.observe.audit_file import Rotation
from trunkline.observe.secrets import SecretMask

MIN_TOKEN_CHARS: Final = 32
"""A shorter token may have been guessed, or be a mistyped password: its digest could lead back to it."""

DIGEST_CHARS: Final = 16


def audit_log(settings: Settings) -> AuditLog | None:
    """The audit log that the settings ask for, if any.

    Raises:
        ConfigurationError: its file cannot be opened.
    """
    rotation = Rotation(settings.audit_max_bytes, settings.audit_max_seconds, settings.audit_kept)
    try:
        return None if settings.audit_file is None else AuditLog(settings.audit_file, rotation)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error


def who(connection: Connection) -> dict[str, Any]:
    """The members of a line that say whose connection it is about."""
    principal = connection.principal
    peer = {"connection": connection.number, "peer": connection.peer}
    return {"principal": principal.name, "tenant": principal.tenant, **peer}


def refused(log: AuditLog, refusal: Refusal, mask: SecretMask) -> None:
    """Log that a peer was not let in: from where, why, and the beginning of its token's digest."""
    error, token = refusal.error, refusal.token
    said: dict[str, str | int | float | None] = {
        "peer": refusal.peer,
        "outcome": error.name,
        "code": error.code,
        "reason": mask(error.message),
    }
    if token is not None and len(token) >= MIN_TOKEN_CHARS:
        said["token_sha256"] = digest_of(token)[:DIGEST_CHARS]
    if "limit" in error.data:
        said["limit"] = str(error.data["limit"])
    if refusal.request_id:
        said["request_id"] = refusal.request_id
    log.event("refused", **said)


Credentials = Mapping[str, Mapping[str, Any]]
"""What a tokens file has, by what names it: ``token`` and the digest's beginning, or ``role`` and its name."""


def credentials_in(path: Path | None) -> Credentials:
    """What a tokens file has now; nothing where there is none, or it cannot be read (its loading tells that)."""
    try:
        raw = {} if path is None else tomllib.loads(path.read_text("utf-8"))
        tokens = {f"token {entry['sha256'].lower()[:DIGEST_CHARS]}": entry for entry in raw.get("tokens", ())}
        roles = {f"role {name}": {"name": name, **grants} for name, grants in raw.get("roles", {}).items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}
    return tokens | roles


def reloaded(log: AuditLog, before: Credentials, after: Credentials, **outcome: str | int) -> None:
    """Log that SIGHUP had the hub read its files again: a line for each token and role that is another, then one."""
    for change, key, entry in _changes(before, after):
        kind, _, digest = key.partition(" ")
        said = {"tenant": str(entry.get("tenant", "default")), "token_sha256": digest} if kind == "token" else {}
        log.event("credentials", change=change, of=kind, name=str(entry.get("name")), **said)
    log.event("reload", by="SIGHUP", **outcome)


def _changes(before: Credentials, after: Credentials) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for key in (*before, *(key for key in after if key not in before)):
        if key not in after:
            yield "removed", key, before[key]
        elif key not in before:
            yield "added", key, after[key]
        elif before[key] != after[key]:
            yield "changed", key, after[key]
