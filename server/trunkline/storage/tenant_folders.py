"""The folder of each tenant: what the data folder is to ``default``, it is to another one. All of this blocks.

::

    <data>/tenants/acme/                          of the tenant acme: a name that is a safe name of a folder is one
    <data>/tenants/acme-gmbh~<SHA-256>/           of "Acme GmbH", and of every other name
    <data>/tenants/acme-gmbh~<SHA-256>/tenant.json    says which

Names of folders are lower-case ASCII, so that a file system that ignores case, or composes characters, keeps apart what
it is given; and two names never share a folder, however alike they look.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from trunkline.storage.durable import replace_file, sync_folder
from trunkline.storage.staging import belong_to_owner_of
from trunkline_protocol.principals import DEFAULT_TENANT

ROOT: Final = "tenants"
COLLECTIONS: Final = "collections"
"""In a tenant's folder, the folder of its collections."""
NAMED_IN: Final = "tenant.json"
READABLE: Final = 40
"""Characters of a name that the folder shows, where the name itself cannot be a folder's."""

_SAFE: Final = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+)*", re.ASCII)
_MAX_SAFE: Final = 64
_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul", *(f"{kind}{number}" for kind in ("com", "lpt") for number in range(10))}
)
"""What no file may be called on some systems, whatever follows behind a full stop."""


class UnnamedFolderError(Exception):
    """A folder among those of tenants does not say whose it is. The message says which, and what to do."""


class _Named(msgspec.Struct):
    tenant: str


def tenant_folder(data: Path, tenant: str) -> Path:
    """The folder of a tenant's data, which need not exist; for ``default`` the data folder itself.

    Args:
        data: the data folder.
        tenant: 1 to 256 printable characters.
    """
    return data if tenant == DEFAULT_TENANT else data / ROOT / folder_name(tenant)


def folder_name(tenant: str) -> str:
    """The name of a tenant's folder. Pure; no two tenants have one, also where case does not count."""
    if len(tenant) <= _MAX_SAFE and _SAFE.fullmatch(tenant) and tenant.partition(".")[0] not in _DEVICES:
        return tenant
    readable = re.sub(r"[^a-z0-9_-]+", "-", tenant[:READABLE].lower())[:READABLE].strip("-")
    return f"{readable}~{hashlib.sha256(tenant.encode('utf-8', 'surrogatepass')).hexdigest()}"


def make_tenant_folder(data: Path, tenant: str) -> Path:
    """Make the folder of a tenant, durably, where it is not there. Returns it.

    Raises:
        OSError: it cannot be made.
    """
    folder = tenant_folder(data, tenant)
    if folder == data or _is_made(folder, tenant):
        return folder
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _say_whose(folder, tenant)
    for each in (folder, folder.parent, data):
        sync_folder(each)
    return folder


def name_tenant_folder(data: Path, tenant: str, failed: contextlib.ExitStack) -> None:
    """Have the folder of a tenant, which is there, say whose it is.

    Args:
        failed: has it say nothing again, if it did not before.

    Raises:
        OSError: it cannot be written.
    """
    folder = tenant_folder(data, tenant)
    if folder != data and not _is_made(folder, tenant):
        failed.callback((folder / NAMED_IN).unlink, missing_ok=True)
        _say_whose(folder, tenant)
        belong_to_owner_of(folder, folder / NAMED_IN)


def _say_whose(folder: Path, tenant: str) -> None:
    if folder.name != tenant:
        replace_file(folder / NAMED_IN, msgspec.json.encode(_Named(tenant)) + b"\n")


def _is_made(folder: Path, tenant: str) -> bool:
    return folder.is_dir() if folder.name == tenant else (folder / NAMED_IN).is_file()


def tenants_in(data: Path) -> Iterator[str]:
    """The tenants that have a folder, by the names of these; without ``default``.

    Raises:
        UnnamedFolderError: a folder that is not empty does not say whose it is.
        OSError: a folder cannot be read.
    """
    root = data / ROOT
    if not root.is_dir():
        return
    for folder in sorted(root.iterdir()):
        if folder.is_dir() and not folder.name.startswith("."):
            if (tenant := _tenant_of(folder)) is not None:
                yield tenant
            elif any(folder.iterdir()):
                words = f"{folder} does not say whose it is: {NAMED_IN} in it is missing or another one's"
                raise UnnamedFolderError(f"{words}; restore that file, or move the folder away")


def _tenant_of(folder: Path) -> str | None:
    try:
        tenant = msgspec.json.decode((folder / NAMED_IN).read_bytes(), type=_Named).tenant
    except FileNotFoundError:
        tenant = folder.name
    except msgspec.MsgspecError:
        return None
    return tenant if tenant != DEFAULT_TENANT and folder_name(tenant) == folder.name else None
