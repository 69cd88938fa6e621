"""The folder of each tenant: one for each name that there may be, and whose it is can be read from it."""

from __future__ import annotations

import string
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.storage.tenant_folders import (
    UnnamedFolderError,
    folder_name,
    make_tenant_folder,
    tenant_folder,
    tenants_in,
)
from trunkline_protocol.principals import is_name

ALLOWED = frozenset(string.ascii_lowercase + string.digits + "-_.~")
PRINTABLE = st.characters(exclude_categories=("Cs", "Cc", "Cf", "Cn", "Co", "Zl", "Zp", "Zs"))
LIKE = st.sampled_from(
    [
        *(".", "..", "/", "../../etc", "a/b", "-rf", "~", "a~b"),
        *("con", "NUL", "com1.txt"),
        *("acme", "Acme", "acme ", "acme.", ".acme", "acme.com", "ACME.COM", folder_name("Acme")),
        *("caf\u00e9", "cafe\u0301", "\u212a", "k", "K", "\u0131", "i", "I", "\u0130", "\u00df", "ss"),
        *("a" * 64, "a" * 65, "\U0001f600" * 256),
    ]
)
NAMES = st.one_of(
    LIKE, st.text(PRINTABLE, min_size=1, max_size=256), st.text("aA.b-B~", min_size=1, max_size=6)
).filter(is_name)


@given(NAMES)
def test_it_is_one_folder_below_that_of_tenants(tenant: str) -> None:
    name = folder_name(tenant)
    assert name not in ("", ".", "..")
    assert set(name) <= ALLOWED
    assert len(name) <= 120
    assert name[0] != "."
    assert name[-1] != "."
    if tenant != "default":
        assert tenant_folder(Path("/data"), tenant).resolve().parent == Path("/data/tenants")


@given(NAMES, NAMES)
def test_two_tenants_have_two_also_where_case_and_composition_do_not_count(one: str, other: str) -> None:
    folded = [unicodedata.normalize("NFKC", folder_name(each)).casefold() for each in (one, other)]
    assert (folded[0] == folded[1]) == (one == other)


@pytest.mark.parametrize("variants", [("acme", "Acme", "ACME"), ("caf\u00e9", "cafe\u0301"), ("k", "K", "\u212a")])
def test_names_that_look_alike_are_apart(variants: tuple[str, ...]) -> None:
    assert len({folder_name(each).casefold() for each in variants}) == len(variants)


@pytest.mark.parametrize("tenant", ["acme", "acme.com", "team_7-b", "0", "a" * 64])
def test_a_safe_name_is_the_folders(tenant: str) -> None:
    assert folder_name(tenant) == tenant


@pytest.mark.parametrize("tenant", ["con", "com1.txt", "a" * 65, "..", "-rf", "Acme", "a~b", "caf\u00e9"])
def test_any_other_is_not(tenant: str) -> None:
    assert folder_name(tenant) != tenant
    assert "~" in folder_name(tenant)


def test_a_folder_says_whose_it_is(tmp_path: Path) -> None:
    names = ["acme", "Acme GmbH", "..", "\u65e5\u672c", "x" * 256]
    assert list(tenants_in(tmp_path)) == []
    for _ in range(2):  # the second time they are there
        for name in names:
            assert make_tenant_folder(tmp_path, name) == tenant_folder(tmp_path, name)
    assert sorted(tenants_in(tmp_path)) == sorted(names)
    assert make_tenant_folder(tmp_path, "default") == tmp_path


def test_one_that_does_not_is_named_unless_it_is_empty(tmp_path: Path) -> None:
    folder = make_tenant_folder(tmp_path, "Acme GmbH")
    (folder / "tenant.json").unlink()
    assert list(tenants_in(tmp_path)) == []
    (folder / "collections").mkdir()
    for written in (None, "{", '{"tenant":"bolt"}'):
        if written is not None:
            (folder / "tenant.json").write_text(written)
        with pytest.raises(UnnamedFolderError, match="acme-gmbh~"):
            list(tenants_in(tmp_path))
    make_tenant_folder(tmp_path, "bolt")
    (tmp_path / "tenants" / "bolt" / "tenant.json").write_text('{"tenant":"acme"}')
    with pytest.raises(UnnamedFolderError):
        list(tenants_in(tmp_path))
