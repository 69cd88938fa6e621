"""The Python sources, room by room: a room is a folder below a root package, or a root package's own files."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
ROOTS: Final = (ROOT / "server", ROOT / "protocol")


@functools.cache
def modules() -> dict[str, Path]:
    """Every module's file, by dotted name."""
    found = {}
    for root in ROOTS:
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(module: str) -> str:
    """The room of a module: ``hub``, ``methods/vectors``, ``trunkline`` for the files at the root, ``protocol``."""
    package, *parts = module.split(".")
    if package == "trunkline_protocol":
        return "protocol"
    path = modules()[module]
    folders = parts if path.name == "__init__.py" else parts[:-1]
    if not folders:
        return "trunkline"
    return "/".join(folders[: 2 if folders[0] == "methods" else 1])


@functools.cache
def imported(path: Path) -> frozenset[str]:
    """Every module that a file imports, wherever in the file, those for types included.

    Where a name is a module of ours, that counts: ``from trunkline.hub import router`` is ``trunkline.hub.router``.
    """
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.module is None:
                raise ValueError(f"{path}: relative imports hide where things come from")
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {name if name in modules() else node.module for name in names}
    return frozenset(found)


@functools.cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function of a file, and how many lines it has."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1
