"""``trunkline backup`` and ``trunkline restore`` of tenants' collections: each comes back as its tenant's."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any, Final

import pytest

pytest.importorskip("faiss")

from tests.cli.test_backup import Done, backup, require_done, restore
from tests.support.stored_collections import contents, upsert_of
from trunkline.methods.vectors.manifest import Manifest
from trunkline.methods.vectors.tenant_stores import TenantStores
from trunkline.storage.tenant_folders import folder_name

TENANTS: Final = ("default", "acme", "Bolt & Co/.." + 244 * "\u65e5")
MORE: Final = 64 * "m"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a collection ``docs`` of each tenant, whose item says whose it is, and another one of acme."""
    stores = TenantStores(tmp_path / "data")
    for tenant, name in [*((tenant, "docs") for tenant in TENANTS), ("acme", MORE)]:
        store = stores.made(tenant)
        store.create(Manifest(name=name, dimension=2, model=None, metadata={}))
        collection = store.open(name)
        assert collection is not None
        collection.upsert(upsert_of({"a": f"{name} of {tenant}"}))
        collection.close()
    return tmp_path / "data"


def there(data: Path) -> dict[tuple[str, str], str]:
    """The text of each collection that is in a data folder, by tenant and name."""
    stores, found = TenantStores(data), {}
    for tenant in TENANTS:
        store = stores.of(tenant)
        for name in ("docs", MORE):
            if store is not None and (collection := store.open(name)) is not None:
                found[tenant, name] = contents(collection)["a"]
                collection.close()
    return found


def fails(done: Done, *words: str) -> None:
    assert done.returncode == 1, done
    assert all(each in done.stderr for each in words), done.stderr


def manifest_of(archive: Path) -> list[dict[str, Any]]:
    with tarfile.open(archive) as tar:
        file = tar.extractfile("manifest.json")
        assert file is not None
        files: list[dict[str, Any]] = json.load(file)["files"]
        return files


def test_all_tenants_collections_come_back_as_theirs(data: Path, tmp_path: Path) -> None:
    archive, elsewhere = tmp_path / "all.tar", tmp_path / "elsewhere"
    require_done(backup(data, archive))
    listed = {(each["tenant"], each["name"]): each["path"] for each in manifest_of(archive)}
    assert listed.keys() == there(data).keys()
    assert len({*listed.values()}) == 4
    require_done(restore(elsewhere, archive))
    assert there(elsewhere) == there(data)
    require_done(backup(elsewhere, tmp_path / "again.tar"))
    assert [each["tenant"] for each in manifest_of(tmp_path / "again.tar")] == ["default", "acme", "acme", TENANTS[2]]


def test_those_of_one_tenant_and_one_of_them(data: Path, tmp_path: Path) -> None:
    for options, wanted in (
        (("--tenant", "acme"), {("acme", "docs"), ("acme", MORE)}),
        (("--tenant", "acme", "--collection", "docs"), {("acme", "docs")}),
        (("--collection", "docs"), {("default", "docs")}),
        (("--tenant", TENANTS[2]), {(TENANTS[2], "docs")}),
    ):
        archive, elsewhere = (
            tmp_path / f"{len(options)}{options[-1][0]}.tar",
            tmp_path / f"to{len(options)}{options[-1][0]}",
        )
        require_done(backup(data, archive, *options))
        assert {(each["tenant"], each["name"]) for each in manifest_of(archive)} == wanted
        require_done(restore(elsewhere, archive))
        assert there(elsewhere).keys() == wanted
    archive = tmp_path / "all.tar"
    require_done(backup(data, archive))
    require_done(restore(tmp_path / "part", archive, "--tenant", "acme", "--collection", MORE))
    assert there(tmp_path / "part").keys() == {("acme", MORE)}
    fails(backup(data, tmp_path / "no.tar", "--tenant", "nobody"), "no collection of tenant 'nobody'")
    fails(
        restore(data, archive, "--tenant", TENANTS[2], "--collection", MORE),
        f"collection '{MORE}' of tenant 'Bolt & Co/..",
    )
    fails(restore(data, archive, "--tenant", "acme"), "is there already", "nothing was changed")


def test_a_folder_that_does_not_say_whose_it_is_is_named(data: Path, tmp_path: Path) -> None:
    (data / "tenants" / folder_name(TENANTS[2]) / "tenant.json").unlink()
    fails(backup(data, tmp_path / "no.tar"), folder_name(TENANTS[2]), "does not say whose it is")
    assert not (tmp_path / "no.tar").exists()


def test_what_a_failed_restore_made_is_gone(data: Path, tmp_path: Path) -> None:
    archive, elsewhere = tmp_path / "all.tar", tmp_path / "elsewhere"
    require_done(backup(data, archive, "--tenant", TENANTS[2]))
    content = bytearray(archive.read_bytes())
    at = content.index(b"docs of Bolt")
    content[at] ^= 1
    archive.write_bytes(content)
    fails(restore(elsewhere, archive), "cannot be restored")
    assert not elsewhere.exists()


def test_an_archive_that_names_another_tenants_folder_is_refused(data: Path, tmp_path: Path) -> None:
    archive = tmp_path / "all.tar"
    require_done(backup(data, archive, "--tenant", "acme", "--collection", "docs"))
    written = archive.read_bytes()
    assert written.count(b'"tenant": "acme"') == 1
    archive.write_bytes(written.replace(b'"tenant": "acme"', b'"tenant": "bolt"'))
    fails(restore(tmp_path / "elsewhere", archive), "is no part of a data folder")
