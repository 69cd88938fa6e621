"""What the rules of ``trunkline doctor --security`` judge beside the settings, and how it is read from this machine."""

from __future__ import annotations

import os
import resource
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from trunkline.config import Settings
    from trunkline.edge.access.tokens import TokensFile

Use = Literal[
    "configuration file",
    "tokens file",
    "JWT keys",
    "TLS key",
    "TLS key's password",
    "data folder",
    "audit file",
    "methods' folder",
]


@dataclass(frozen=True, slots=True)
class FileFact:
    """A file or folder that the hub trusts or keeps.

    Attributes:
        mode: its permissions.
        owner: the user id that it belongs to.
        folder_mode: the permissions of the folder that it is in, with the sticky bit.
    """

    use: Use
    path: str
    mode: int
    owner: int
    folder_mode: int = 0o755


@dataclass(frozen=True, slots=True)
class TokenFact:
    """An entry of the tokens file.

    Attributes:
        expires: in seconds since 1970; None for never.
        is_limited: whether anything limits which methods it may call.
    """

    name: str
    tenant: str
    expires: float | None
    is_admin: bool
    is_limited: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the machine and of the tokens.

    Attributes:
        now: seconds since 1970.
        user: the user id that the hub has.
        core_limit: the size of its core files in bytes; -1 for any.
        files: those that there are.
        tokens: the entries of the tokens file.
        unstated_is_granted: whether who has no role, and no patterns, may do everything.
        unknown: what could not be looked at, in words.
    """

    now: float
    user: int
    core_limit: int
    files: tuple[FileFact, ...] = ()
    tokens: tuple[TokenFact, ...] = ()
    unstated_is_granted: bool = True
    unknown: tuple[str, ...] = ()


def gather(settings: Settings) -> Facts:
    """Read the facts: permissions of files, the tokens file, this process. Blocks."""
    from trunkline.edge.access.tokens import TokensFile

    unknown: list[str] = []
    files = tuple(_files(settings, unknown))
    tokens = None
    if settings.tokens_file is not None:
        try:
            tokens = TokensFile.load(settings.tokens_file)
        except ValueError as error:
            unknown.append(f"tokens: {error}")
    return Facts(
        now=time.time(),
        user=os.geteuid(),
        core_limit=resource.getrlimit(resource.RLIMIT_CORE)[0],
        files=files,
        tokens=() if tokens is None else tuple(_tokens(tokens)),
        unstated_is_granted=_unstated_is_granted(tokens),
        unknown=tuple(unknown),
    )


def _tokens(file: TokensFile) -> Iterator[TokenFact]:
    from trunkline.hub.principal import ADMIN

    for principal, expires in file.entries():
        yield TokenFact(
            principal.name, principal.tenant, expires, ADMIN in principal.roles, principal.methods is not None
        )


def _unstated_is_granted(file: TokensFile | None) -> bool:
    """Whether a JWT or a hook that names no roles and no patterns grants everything."""
    from trunkline.edge.access.grants import Grants, Roles

    roles = Roles() if file is None else file.roles
    return roles.principal("somebody", (), Grants(), credential="").methods is None


def _files(settings: Settings, unknown: list[str]) -> Iterator[FileFact]:
    named: list[tuple[Use, Path | None]] = [
        ("configuration file", settings.file),
        ("tokens file", settings.tokens_file),
        ("JWT keys", settings.jwt_keys_file),
        ("TLS key", settings.tls_key or settings.tls_certificate),
        ("TLS key's password", settings.tls_key_password_file),
        ("data folder", settings.data),
        ("audit file", settings.audit_file),
        ("methods' folder", Path.cwd() if settings.methods else None),
    ]
    for use, path in named:
        if path is None:
            continue
        try:
            where = path.resolve()
            status, folder = where.stat(), where.parent.stat()
        except FileNotFoundError:  # the hub makes what is its own, and says what it misses
            continue
        except OSError as error:
            unknown.append(f"{use} {path}: {error.strerror}")
            continue
        yield FileFact(use, str(path), stat.S_IMODE(status.st_mode), status.st_uid, stat.S_IMODE(folder.st_mode))
