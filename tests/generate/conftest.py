"""Folders as users have them, for tests that compile what is generated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.generate.compilers import CLIENTS, Python


@pytest.fixture
def typescript(tmp_path: Path) -> Iterator[Path]:
    """A folder as that of a user who installed the package ``trunkline``."""
    (tmp_path / "node_modules").symlink_to(CLIENTS / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    options = {
        "strict": True, "noEmit": True, "module": "NodeNext", "target": "ES2022", "types": [], "lib": ["ES2023", "DOM"],
        "exactOptionalPropertyTypes": True, "noUncheckedIndexedAccess": True, "noUnusedLocals": True,
        "verbatimModuleSyntax": True, "erasableSyntaxOnly": True, "isolatedModules": True,
    }  # fmt: skip
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["*.ts"]}))
    yield tmp_path
    (tmp_path / "node_modules").unlink()


@pytest.fixture(scope="session")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mypy knows of the standard library and of the client, for all tests of this process."""
    return tmp_path_factory.mktemp("mypy")


@pytest.fixture
def python(tmp_path: Path, mypy_cache: Path) -> Python:
    """A folder, to which mypy comes with what it knows."""
    return Python(tmp_path, mypy_cache)
