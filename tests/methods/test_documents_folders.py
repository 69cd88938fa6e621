"""Which files may be read, and which of a folder are: with real links, pipes and permissions."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("semantic_text_splitter")

from trunkline.methods.documents.blocks import Unreadable
from trunkline.methods.documents.folders import FoundFile, Roots, read_file, walk
from trunkline.storage.tenant_folders import folder_name
from trunkline_protocol.errors import ErrorCode, RpcError

FORBIDDEN, INVALID = ErrorCode.FORBIDDEN, ErrorCode.INVALID_PARAMS


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "books"
    for name in ("b.md", "a.txt", "sub/c.html", "sub/deep/d.pdf", "picture.png", ".hidden.md", ".git/e.md"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "secret.md").write_text("secret")
    return folder


def refused(roots: Roots, path: str, code: int) -> str:
    with pytest.raises(RpcError) as caught:
        roots.find(path)
    assert caught.value.code == code, caught.value
    return caught.value.message


def names(found: FoundFile, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> list[str]:
    return [file.name for file in walk(found, include, exclude)]


def test_without_roots_no_file_is_read() -> None:
    assert "set TRUNKLINE_DOCUMENTS_ROOT" in refused(Roots(None), "/etc/passwd", FORBIDDEN)


def test_a_tenant_reads_in_its_own_folders_alone(tmp_path: Path) -> None:
    for folder in ("common", "own/acme", "own/default", f"own/{folder_name('Acme')}"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.md").touch()
    setting = f"{tmp_path / 'common'}:{tmp_path / 'own' / '{tenant}'}"
    assert names(Roots(setting).find("common")) == ["common/a.md"]
    assert Roots(setting).find("default").path == tmp_path / "own" / "default"
    acme = Roots(setting, "acme")
    assert names(acme.find(".")) == ["a.md"]
    for path in ("../default", str(tmp_path / "common" / "a.md"), str(tmp_path / "own" / "default")):
        refused(acme, path, FORBIDDEN)
    assert Roots(setting, "Acme").find(".").path == tmp_path / "own" / folder_name("Acme")
    assert "{tenant}" in refused(Roots(str(tmp_path / "common"), "acme"), "a.md", FORBIDDEN)


@pytest.mark.parametrize("path", ["../secret.md", "sub/../../secret.md", "sub/../a.txt", "..", "/etc/passwd"])
def test_what_is_outside_is_refused(root: Path, path: str) -> None:
    message = refused(Roots(str(root)), path, FORBIDDEN)
    assert message == f"path {path!r} is outside the folders that this hub may read (TRUNKLINE_DOCUMENTS_ROOT)"


def test_a_neighbour_whose_name_begins_alike_is_outside(root: Path) -> None:
    other = root.with_name("books-private")
    other.mkdir()
    refused(Roots(str(root)), str(other), FORBIDDEN)


def test_nothing_is_told_of_what_is_outside(root: Path) -> None:
    there = refused(Roots(str(root)), str(root.parent / "secret.md"), FORBIDDEN)
    not_there = refused(Roots(str(root)), str(root.parent / "nobody.md"), FORBIDDEN)
    assert there.replace("secret", "nobody") == not_there


@pytest.mark.parametrize("target", ["../secret.md", "../nobody.md", "/etc/passwd"])
def test_links_that_lead_outside_are_refused(root: Path, target: str) -> None:
    (root / "link.md").symlink_to(target)
    message = refused(Roots(str(root)), "link.md", FORBIDDEN)
    assert "passwd" not in message
    assert "nobody" not in message


def test_folders_behind_links_are_refused(root: Path) -> None:
    (root / "up").symlink_to(root.parent)
    refused(Roots(str(root)), "up/secret.md", FORBIDDEN)
    assert not [name for name in names(Roots(str(root)).find(".")) if name.startswith("up")]


def test_links_inside_are_followed(root: Path) -> None:
    (root / "link.md").symlink_to("sub/c.html")
    roots = Roots(str(root))
    found = roots.find("link.md")
    assert read_file(roots.resolve(found)) == b"sub/c.html"
    assert found.name == "link.md"


def test_links_in_a_circle_are_refused(root: Path) -> None:
    (root / "x").symlink_to("y")
    (root / "y").symlink_to("x")
    refused(Roots(str(root)), "x", INVALID)


def test_a_link_that_is_put_there_after_the_check_is_not_followed(root: Path) -> None:
    roots = Roots(str(root))
    resolved = roots.resolve(roots.find("a.txt"))
    (root / "a.txt").unlink()
    (root / "a.txt").symlink_to(root.parent / "secret.md")
    with pytest.raises(Unreadable, match="it cannot be read"):
        read_file(resolved)


@pytest.fixture
def outside(root: Path) -> Path:
    """A folder beside the root that has a file of the same name as one in ``sub``."""
    (root.parent / "outside").mkdir()
    (root.parent / "outside" / "c.html").write_text("secret")
    return root.parent / "outside"


def exchange(folder: Path, target: Path) -> None:
    """Put a link where a folder is."""
    folder.rename(folder.with_name("was"))
    folder.symlink_to(target)


@pytest.mark.parametrize("depth", ["sub", "."])
def test_a_folder_that_becomes_a_link_after_the_check_is_not_gone_through(
    root: Path, outside: Path, depth: str
) -> None:
    roots = Roots(str(root))
    resolved = roots.resolve(roots.find("sub/c.html"))
    (outside / "sub").symlink_to(outside)
    exchange(root / depth if depth == "sub" else root, outside)
    with pytest.raises(Unreadable, match="it cannot be read"):
        read_file(resolved)


def test_a_folder_that_becomes_a_link_while_names_are_listed_is_not_listed(root: Path, outside: Path) -> None:
    roots = Roots(str(root))
    found = walk(roots.find("."), resolve=roots.resolve)
    assert next(found).name == "a.txt"
    exchange(root / "sub", outside)
    assert [each.name for each in found] == ["b.md", "sub"], "as what cannot be read"
    with pytest.raises(RpcError, match="is outside the folders"):
        roots.resolve(FoundFile("sub", root / "sub"))


def test_whatever_is_exchanged_meanwhile_nothing_outside_is_read(root: Path, outside: Path) -> None:
    roots, over = Roots(str(root)), threading.Event()
    link, aside = root / ".link", root / ".aside"
    link.symlink_to(outside)

    def exchanging() -> None:
        while not over.is_set():
            (root / "sub").rename(aside)
            link.rename(root / "sub")
            (root / "sub").rename(link)
            aside.rename(root / "sub")

    said: Counter[str] = Counter()
    exchanger = threading.Thread(target=exchanging)
    exchanger.start()
    try:
        for _ in range(3000):
            try:
                said[read_file(roots.resolve(roots.find("sub/c.html"))).decode()] += 1
            except (RpcError, Unreadable) as error:
                said[type(error).__name__] += 1
    finally:
        over.set()
        exchanger.join()
    assert said.keys() <= {"sub/c.html", "RpcError", "Unreadable"}, said


@pytest.mark.parametrize("path", ["/proc/self/environ", "/proc/self/root/etc/passwd", "/dev/zero", "//etc/passwd"])
def test_paths_of_the_kernel_are_outside(root: Path, path: str) -> None:
    refused(Roots(str(root)), path, FORBIDDEN)
    (root / "link.md").symlink_to(path)
    refused(Roots(str(root)), "link.md", FORBIDDEN)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is of Linux")
def test_links_that_the_kernel_answers_are_not_followed() -> None:
    with pytest.raises(Unreadable, match="it cannot be read"):
        read_file(Path("/proc/self/root/etc/passwd"))
    with pytest.raises(Unreadable, match="it is no regular file"):
        read_file(Path("/dev/zero"))


def test_a_file_is_read_as_far_as_it_was_large(root: Path) -> None:
    with (root / "large.md").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(Unreadable, match=r"it has 68,157,440 bytes, and files are read up to 67,108,864"):
        read_file(root / "large.md")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the right to search a folder is not enough")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_folders_above_need_not_be_listed(root: Path) -> None:
    root.parent.chmod(0o111)
    try:
        assert read_file(root / "a.txt") == b"a.txt"
    finally:
        root.parent.chmod(0o700)


@pytest.mark.parametrize("path", ["nobody.md", "a.txt/b", "", "a\x00b"])
def test_what_is_not_there_is_said(root: Path, path: str) -> None:
    assert repr(path) in refused(Roots(str(root)), path, INVALID)


def test_a_root_may_be_a_link_itself(root: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(root)
    roots = Roots(str(tmp_path / "current"))
    assert read_file(roots.resolve(roots.find("a.txt"))) == b"a.txt"


def test_several_roots_are_told_apart_by_name(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "notes"
    other.mkdir()
    (other / "n.md").write_text("n")
    roots = Roots(f"{root}{os.pathsep}{other}")
    assert roots.find("notes/n.md").name == "notes/n.md"
    assert roots.find(str(root / "a.txt")).name == "books/a.txt"
    assert names(roots.find("notes")) == ["notes/n.md"]
    assert "begin it with the name of a root: books, notes" in refused(roots, "a.txt", INVALID)
    refused(roots, "books/../notes/n.md", FORBIDDEN)


def test_roots_of_one_name_are_a_wrong_configuration(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other" / "books").mkdir(parents=True)
    roots = Roots(f"{root}{os.pathsep}{tmp_path / 'other' / 'books'}")
    assert "two roots have one name" in refused(roots, "a.txt", ErrorCode.INVALID_CONFIGURATION)


def test_a_folder_has_its_documents_in_order(root: Path) -> None:
    skipped: list[str] = []
    found = [file.name for file in walk(Roots(str(root)).find("."), skipped=skipped.append)]
    assert found == ["a.txt", "b.md", "sub/c.html", "sub/deep/d.pdf"]
    assert skipped == ["picture.png"]
    assert names(Roots(str(root)).find("sub")) == ["sub/c.html", "sub/deep/d.pdf"]
    assert names(Roots(str(root)).find("picture.png")) == ["picture.png"]


@pytest.mark.parametrize(
    ("globs", "found"),
    [
        ({"include": ["*.md"]}, ["b.md"]),
        ({"include": ["sub/*"]}, ["sub/c.html", "sub/deep/d.pdf"]),
        ({"include": ["**/d.*", "*.png"]}, ["picture.png", "sub/deep/d.pdf"]),
        ({"exclude": ["deep"]}, ["a.txt", "b.md", "sub/c.html"]),
        ({"exclude": ["sub/*.html", "*.md"]}, ["a.txt", "sub/deep/d.pdf"]),
        ({"include": ["*.md", "*.txt"], "exclude": ["b*"]}, ["a.txt"]),
    ],
)
def test_globs_say_which_files(root: Path, globs: dict[str, list[str]], found: list[str]) -> None:
    assert names(Roots(str(root)).find("."), **globs) == found


def test_pipes_and_folders_are_no_files(root: Path) -> None:
    os.mkfifo(root / "pipe.txt")
    for name in ("pipe.txt", "sub"):
        with pytest.raises(Unreadable, match=r"it is no regular file|it cannot be read"):
            read_file(root / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_listed_is_one_that_cannot_be_read(root: Path) -> None:
    (root / "sub").chmod(0)
    try:
        assert "sub" in names(Roots(str(root)).find("."))
        with pytest.raises(Unreadable, match="Permission denied"):
            read_file(root / "sub")
    finally:
        (root / "sub").chmod(0o700)
