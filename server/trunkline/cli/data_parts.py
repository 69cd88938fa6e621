"""What of a data folder is backed up: each collection, jobs and conversations. The rest is made anew, or not kept."""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from trunkline.conversations import store as conversations
from trunkline.jobs import store as jobs
from trunkline.jobs.former import FormerFiles
from trunkline.methods.packs import PACKS, missing_modules
from trunkline.storage.archive import ArchivedFile, ArchiveError
from trunkline.storage.failures import damaged
from trunkline.storage.tenant_folders import COLLECTIONS, tenant_folder, tenants_in
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.principals import DEFAULT_TENANT, is_name

if TYPE_CHECKING:
    from trunkline.methods.vectors.manifest import Manifest

Kind = Literal["collection", "jobs", "conversations"]


class Wanted(NamedTuple):
    """What of the parts is asked for: collections by name, all of one tenant, or everything."""

    names: Sequence[str] = ()
    tenant: str | None = None
    no_jobs: bool = False

    def missing(self, there: Collection[Part]) -> list[str]:
        """What is named and not there, in words."""
        if self.names:
            have = {part.name for part in there if self.takes(part)}
            return [in_words(each, self.tenant or DEFAULT_TENANT) for each in self.names if each not in have]
        is_there = self.tenant is None or any(self.takes(part) for part in there)
        return [] if is_there else [f"collection of tenant {self.tenant!r}"]

    def takes(self, part: Part) -> bool:
        """Whether a part is asked for."""
        if part.kind != "collection":
            return not self.names and self.tenant is None and not (self.no_jobs and part.kind == "jobs")
        if self.names:
            return part.name in self.names and part.tenant == (self.tenant or DEFAULT_TENANT)
        return self.tenant in (None, part.tenant)


def in_words(collection: str, tenant: str) -> str:
    """A collection, for messages."""
    return f"collection {collection!r}" + ("" if tenant == DEFAULT_TENANT else f" of tenant {tenant!r}")


class Part(NamedTuple):
    """A tenant's collection, or the jobs or conversations of all, and where it is: its folder, and its file in that."""

    kind: Kind
    name: str
    folder: str
    file: str
    tenant: str = DEFAULT_TENANT

    @property
    def what(self) -> str:
        """What it is, for messages."""
        return in_words(self.name, self.tenant) if self.kind == "collection" else f"the {self.kind}"

    @property
    def path(self) -> str:
        """The path of its file below the data folder."""
        return f"{self.folder}/{self.file}"

    @property
    def member(self) -> str:
        """The name of its file in an archive: the path, or where that may be too long for one, a shorter name."""
        if self.tenant == DEFAULT_TENANT:
            return self.path
        return f"tenants/{hashlib.sha256(self.tenant.encode()).hexdigest()[:16]}/{self.name}.sqlite"


class Found(NamedTuple):
    """What is in a copy: how many items or jobs, a line for each damaged job, and of a collection what it is."""

    items: int
    position: int | None = None
    manifest: Manifest | None = None
    damaged_jobs: Sequence[str] = ()


JOBS: Final = Part("jobs", "jobs", "jobs", jobs.FILE)
CONVERSATIONS: Final = Part("conversations", "conversations", "conversations", conversations.FILE)
OF_THE_HUB: Final = (JOBS, CONVERSATIONS)
"""What is one part, whoever's it is."""


def collection(name: str, tenant: str) -> Part:
    """The part that is a collection of a tenant.

    Raises:
        RpcError: 4002, this installation cannot read one.
    """
    if missing := missing_modules("vectors"):
        words = f"collections need {', '.join(missing)}: pip install 'trunkline[{PACKS['vectors'].extra}]'"
        raise RpcError(ErrorCode.MISSING_DEPENDENCIES, words)
    from trunkline.methods.vectors import rows

    folder = tenant_folder(Path(), tenant) / COLLECTIONS / name
    return Part("collection", name, folder.as_posix(), rows.FILE, tenant)


def parts_of(data: Path) -> Iterator[Part]:
    """What there is in a data folder, the jobs first: what one has done that is over in the copy is in a later copy.

    Raises:
        OSError: a folder cannot be read.
        UnnamedFolderError: one among those of tenants does not say whose it is.
        RpcError: as :func:`collection`.
    """
    roots = {tenant: tenant_folder(data, tenant) / COLLECTIONS for tenant in (DEFAULT_TENANT, *tenants_in(data))}
    for folder in (*(data / part.folder for part in OF_THE_HUB), *roots.values()):
        if folder.is_symlink() and not folder.exists():
            raise FileNotFoundError(
                errno.ENOENT, "it is a link to what is not there: is a disk not mounted?", str(folder)
            )
    yield from (part for part in OF_THE_HUB if (data / part.folder).is_dir())
    for tenant, root in roots.items():
        for folder in sorted(root.iterdir()) if root.is_dir() else ():
            is_one = folder.is_dir() and not folder.name.startswith(".")
            if is_one and _is_named(part := collection(folder.name, tenant)):
                yield part


def part_in(stored: ArchivedFile) -> Part:
    """The part that an archived file is, by what the manifest says of it.

    Raises:
        ArchiveError: it is none.
        RpcError: as :func:`collection`.
    """
    known = {part.kind: part for part in OF_THE_HUB}
    part = next((known[kind] for kind in known if kind == stored.kind), None) or collection(stored.name, stored.tenant)
    said = (stored.kind, stored.name, stored.path, stored.tenant)
    if said != (part.kind, part.name, part.member, part.tenant) or not _is_named(part):
        raise ArchiveError(
            f"{stored.kind!r:.100} {stored.name!r:.200} in {stored.path!r:.200} is no part of a data folder"
        )
    return part


def _is_named(part: Part) -> bool:
    if part.kind != "collection":
        return True
    from trunkline.methods.vectors.shapes import NAME

    return re.fullmatch(NAME, part.name) is not None and is_name(part.tenant)


def require_converted(part: Part, folder: Path) -> None:
    """Check that a part has the file of this version.

    Raises:
        RpcError: 4001, files of an older version are there; 3002, none.
        OSError: the folder cannot be read.
    """
    if part.kind != "collection":
        if part.kind == "jobs":
            FormerFiles(folder).require_none()
        if not (folder / part.file).exists():
            raise damaged(folder / part.file, "it is gone")
        return
    from trunkline.methods.vectors import former

    former.require_converted(folder)


def check(part: Part, copy: Path, original: Path) -> Found:
    """Read all that is in a copy of a part's file.

    Args:
        original: what it is a copy of, for messages.

    Raises:
        RpcError: 3002, it is damaged; 4001, it is of a later version of Trunkline, or another collection's; 5001.
    """
    if part.kind == "jobs":
        count, damaged_jobs = jobs.check_copy(copy, original)
        return Found(count, damaged_jobs=damaged_jobs)
    if part.kind == "conversations":
        return Found(conversations.check_copy(copy, original))
    from trunkline.methods.vectors import rows

    copied = rows.check_copy(copy, original)
    if copied.manifest.name != part.name:
        words = f"{original} is collection {copied.manifest.name!r}, which is opened by no other name"
        raise RpcError(ErrorCode.INVALID_CONFIGURATION, f"{words}: move its folder")
    return Found(copied.items, copied.position, copied.manifest)


def complete(found: Found, folder: Path) -> None:
    """Add what else a folder has beside the file in which something was found.

    Raises:
        OSError: it cannot be written.
    """
    if found.manifest is not None:
        from trunkline.methods.vectors import former

        former.write_manifest(folder, found.manifest)
