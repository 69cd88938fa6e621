"""Which files count as the code of an executor, and what is imported anew."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trunkline.methods.source_files import forget_sources, loaded_sources

NAMES = ("watched_one", "watched_two")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with modules of somebody's own."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in NAMES:
        sys.modules.pop(name, None)


def test_what_was_imported_is_told_with_its_time_of_change(folder: Path) -> None:
    importlib.import_module("watched_one")
    file = folder / "watched_one.py"
    found = loaded_sources(time.time_ns() + 1, [])
    assert found[str(file)] == file.stat().st_mtime_ns
    assert str(folder / "watched_two.py") not in found
    assert not [path for path in found if "site-packages" in path or path.startswith(os.path.dirname(os.__file__))]


def test_what_has_changed_since_loading_began_counts_as_older_than_any(folder: Path) -> None:
    importlib.import_module("watched_one")
    file = folder / "watched_one.py"
    assert loaded_sources(file.stat().st_mtime_ns, [])[str(file)] == 0


def test_files_of_modules_that_did_not_load_count_too_where_they_are_there(folder: Path) -> None:
    broken, gone = folder / "watched_two.py", folder / "nothing.py"
    found = loaded_sources(time.time_ns() + 1, [str(broken), str(gone)])
    assert found[str(broken)] == broken.stat().st_mtime_ns
    assert str(gone) not in found


def test_only_modules_from_these_folders_are_imported_anew(folder: Path) -> None:
    one = importlib.import_module("watched_one")
    forget_sources([])
    forget_sources([str(folder)[:-1]])  # a folder whose name begins alike
    assert sys.modules["watched_one"] is one
    forget_sources([str(folder)])
    assert "watched_one" not in sys.modules
    assert "msgspec" in sys.modules
    assert importlib.import_module("watched_one") is not one
