"""The marks that ``@method`` leaves: on the function, and in its module, which knows by them what it should serve."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

MARK: Final = "__trunkline_method__"
"""The attribute that marks a function, with its :class:`trunkline.methods.declaration.MethodOptions`."""

_MARKS: Final = "__trunkline_marks__"
"""The global of a module in which its marks are kept."""

_READ: Final = "a property is read, not called: leave it out, and mark a def"
_HIDDEN: Final = (
    "its module has it nowhere: keep it as a global of the module, or as a method of a class that is one; a second def "
    "of the same name takes its place, and a decorator above @method needs functools.wraps"
)
_LISTED: Final = 8
"""Names of a module that a message has at most."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One use of ``@method`` in a module.

    Attributes:
        method: the name to serve.
        place: file and line.
    """

    method: str
    place: str


class _Marks:
    """The marks of a module, as it was imported last."""

    def __init__(self, spec: object) -> None:
        self.spec = spec
        self.found: list[Mark] = []


def keep_mark(function: object, method: str) -> None:
    """Keep with the module that uses ``@method`` that it marks one of its own functions; called by the decorator.

    What marks functions of other modules, as a helper does, says nothing of its own.
    """
    frame = inspect.currentframe()
    for _ in ("this function", "the decorator"):
        frame = None if frame is None else frame.f_back
    if frame is None or getattr(function, "__module__", None) != frame.f_globals.get("__name__"):
        return
    spec = frame.f_globals.get("__spec__")
    marks = frame.f_globals.get(_MARKS)
    if not isinstance(marks, _Marks) or marks.spec is not spec:  # imported anew, into the same module
        marks = frame.f_globals[_MARKS] = _Marks(spec)
    marks.found.append(Mark(method, f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"))


def marked_by(module: ModuleType) -> dict[str, str]:
    """What to tell, by method, of all that the module marks, where it serves it nowhere: place, and what to write."""
    marks = vars(module).get(_MARKS)
    found = marks.found if isinstance(marks, _Marks) else []
    return {mark.method: f"{mark.method} is marked, but {_HIDDEN} ({mark.place})" for mark in found}


def hidden_in(cls: type[Any]) -> dict[str, str]:
    """The same of what members of a class, such as properties, hide."""
    hidden: dict[str, str] = {}
    seen: set[str] = set()
    for base in cls.__mro__[:-1]:
        for name, member in vars(base).items():
            if name in seen or hasattr(member, MARK) or isinstance(member, (staticmethod, classmethod, type)):
                continue
            seen.add(name)
            if (function := _behind(member)) is not None:
                kind = type(member).__name__
                why = _READ if "property" in kind else "write a def that calls it, and mark that"
                method = getattr(function, MARK).name
                hidden[method] = (
                    f"{method} is marked, but {cls.__name__}.{name} is a {kind}: {why} ({place_of(function)})"
                )
    return hidden


def _behind(member: object) -> Callable[..., Any] | None:
    """The marked function that something wraps."""
    behind = (getattr(member, name, None) for name in ("fget", "fset", "fdel", "func"))
    return next((each for each in behind if callable(each) and hasattr(each, MARK)), None)


def nothing_marked(module: ModuleType) -> str:
    """What to tell of a module that marks nothing: what was looked at, and what to write."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    more = f" and {len(own) - _LISTED} more" if len(own) > _LISTED else ""
    looked = f"of its own it has {', '.join(own[:_LISTED])}{more}" if own else "it has no function or class of its own"
    file = f" ({file})" if (file := getattr(module, "__file__", None)) else ""
    return (
        f"module {module.__name__} has no function marked with @method: {looked}; write "
        f'@method("space.name") above each def that is to be served{file}'
    )


def place_of(function: Callable[..., Any]) -> str:
    """File and line of a function, for people; its name where it has none."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    name = getattr(function, "__name__", type(function).__name__)
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}" if code is not None else str(name)
