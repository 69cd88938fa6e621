"""Two classes with a release step and a close, the first of which fails as it is told."""

from __future__ import annotations

from collections.abc import Callable

from trunkline.methods.declaration import method

closed: list[str] = []
released: list[str] = []


class Refusal(BaseException):
    """Of the kind that `except Exception` does not catch."""


def nothing() -> None:
    """Release well."""


release_by: Callable[[], None] = nothing


class First:
    @method("closing.first")
    async def first(self) -> str:
        return "first"

    async def release(self, _released: Callable[[str], bool]) -> None:
        release_by()
        released.append("first")

    def close(self) -> None:
        closed.append("first")
        raise Refusal("not closed")


class Second:
    @method("closing.second")
    async def second(self) -> str:
        return "second"

    async def release(self, _released: Callable[[str], bool]) -> None:
        released.append("second")

    async def close(self) -> None:
        closed.append("second")
