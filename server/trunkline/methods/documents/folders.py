"""Files and folders that may be read: those inside the allowed roots, links included."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final

from trunkline import ErrorCode, RpcError
from trunkline.methods.documents.blocks import Unreadable, clean
from trunkline.methods.documents.extract import KINDS, check_size
from trunkline.methods.documents.opening import is_there, list_folder, open_file
from trunkline.storage.tenant_folders import folder_name
from trunkline_protocol.principals import DEFAULT_TENANT

SETTING: Final = "TRUNKLINE_DOCUMENTS_ROOT"
PLACEHOLDER: Final = "{tenant}"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file: what it is called from its folder or root on, with slashes, and where it is."""

    name: str
    path: Path


class Roots:
    """The folders of ``TRUNKLINE_DOCUMENTS_ROOT`` that are a tenant's.

    Those that the setting names with ``{tenant}`` are each tenant's own, with the name of its folder in that place
    (:mod:`trunkline.storage.tenant_folders`). All others are ``default``'s.

    With one root a name is relative to it; with several it begins with the root's own name. An absolute path inside
    a root is the same as its name.
    """

    def __init__(self, setting: str | None, tenant: str = DEFAULT_TENANT) -> None:
        parts = [part for part in (setting or "").split(os.pathsep) if part]
        own = [part for part in parts if tenant == DEFAULT_TENANT or PLACEHOLDER in part]
        folder = folder_name(tenant)
        self._roots = [Path(os.path.abspath(Path(part.replace(PLACEHOLDER, folder)).expanduser())) for part in own]

    def find(self, path: str) -> FoundFile:
        """The file or folder a caller means.

        Raises:
            RpcError: 6002, outside the roots, or there are none; -32602, there is no such file; 4001, the roots
                cannot be told apart. What is outside is not looked at, and nothing is said of it.
        """
        if not self._roots:
            raise RpcError(
                ErrorCode.FORBIDDEN,
                f"path {path!r:.300}: this hub reads no files: set {SETTING} to the folder it may read from (with "
                f"{PLACEHOLDER} in it, for other tenants than {DEFAULT_TENANT}), or send the content as bytes or text",
            )
        if "\x00" in path or not path:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"path {path!r:.300}: no file has such a name")
        root, inside = self._locate(path)
        name = PurePosixPath(root.name, inside) if len(self._roots) > 1 else inside
        found = FoundFile(name.as_posix(), root / inside)
        if not is_there(self.resolve(found, path)):
            raise RpcError(ErrorCode.INVALID_PARAMS, f"path {path!r:.300}: there is no such file or folder")
        return found

    def _locate(self, path: str) -> tuple[Path, PurePosixPath]:
        pure = PurePosixPath(path)
        if ".." in pure.parts:
            raise _outside(path)
        if pure.is_absolute():
            for root in self._roots:
                if pure.is_relative_to(root):
                    return root, pure.relative_to(root)
            raise _outside(path)
        if len(self._roots) == 1:
            return self._roots[0], pure
        names = [root.name for root in self._roots]
        if len(set(names)) < len(names):
            raise RpcError(ErrorCode.INVALID_CONFIGURATION, f"{SETTING}: two roots have one name: {', '.join(names)}")
        if pure.parts and pure.parts[0] in names:
            return self._roots[names.index(pure.parts[0])], PurePosixPath(*pure.parts[1:])
        raise RpcError(
            ErrorCode.INVALID_PARAMS, f"path {path!r:.300}: begin it with the name of a root: {', '.join(names)}"
        )

    def resolve(self, found: FoundFile, said: str | None = None) -> Path:
        """The path of a file with all links followed, which has to be inside the roots.

        It is opened by :mod:`trunkline.methods.documents.opening`: what is a link by then is not followed any more.

        Args:
            said: what the caller called it.

        Raises:
            RpcError: 6002, outside the roots; -32602, links that cannot be followed.
        """
        try:
            resolved = found.path.resolve()
            is_inside = any(resolved.is_relative_to(root.resolve()) for root in self._roots)
        except (OSError, RuntimeError) as error:  # links in a circle
            raise RpcError(ErrorCode.INVALID_PARAMS, f"path {said or found.name!r:.300} cannot be followed") from error
        if not is_inside:
            raise _outside(said or found.name)
        return resolved


def source_name(name: str) -> str:
    """What a file is called in a collection: two files never have the same name, whatever bytes theirs consist of."""
    if (cleaned := clean(name)) == name:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:12]
    return f"{cleaned}~{digest}"


def _outside(path: str) -> RpcError:
    return RpcError(
        ErrorCode.FORBIDDEN, f"path {path!r:.300} is outside the folders that this hub may read ({SETTING})"
    )


def walk(
    top: FoundFile,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    skipped: Callable[[str], None] | None = None,
    resolve: Callable[[FoundFile], Path] = lambda found: found.path.resolve(),
) -> Iterator[FoundFile]:
    """The documents at a path, in order of their names: itself, if it is a file, else those in the folder and below.

    Without ``include`` these are the files with a suffix of :data:`KINDS`. Names that begin with a dot and folders
    that are links are left out.

    Args:
        include: globs; ``*`` also matches slashes, and a glob without slash is for the last part of the name.
        exclude: globs of files and folders to leave out.
        skipped: called with the name of each file that is left out for its suffix or for want of a glob.
        resolve: the path of a folder with all links followed, or an error: :meth:`Roots.resolve`.

    A folder that cannot be listed is given as if it were a file: reading it will say why.
    """
    folders = [(top.path, PurePosixPath())]
    while folders:
        folder, inside = folders.pop()
        below = []
        found = FoundFile((PurePosixPath(top.name) / inside).as_posix(), folder)
        try:
            entries = list_folder(resolve(found))
        except (OSError, RpcError):  # the path itself may be of a file
            yield found
            continue
        for entry in entries:
            name = (inside / entry.name).as_posix()
            if entry.name.startswith(".") or _matches(name, exclude):
                continue
            if entry.is_folder:
                if not entry.is_link:
                    below.append((folder / entry.name, inside / entry.name))
            elif _matches(name, include) if include else PurePosixPath(name).suffix.lower() in KINDS:
                yield FoundFile((PurePosixPath(top.name) / name).as_posix(), folder / entry.name)
            elif skipped is not None:
                skipped(name)
        folders += reversed(below)


def _matches(name: str, globs: Sequence[str]) -> bool:
    last = name.rpartition("/")[2]
    return any(fnmatchcase(name if "/" in glob else last, glob) or fnmatchcase(f"/{name}", glob) for glob in globs)


def read_file(path: Path) -> bytes:
    """The content of a regular file of bounded size.

    Args:
        path: with its links resolved: one that was put in any part of it since is not followed.

    Raises:
        Unreadable: the file is gone, no regular file, too large, or may not be read.
    """
    try:
        with open(open_file(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            check_size(size)
            return file.read(size + 1)
    except ValueError as error:
        raise Unreadable(str(error)) from error
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror or error}") from error
