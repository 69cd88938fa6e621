"""A second module of methods, which can be made to fail by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trunkline import method

trouble: BaseException | None = None


class Served:
    def load(self, _settings: Mapping[str, Any]) -> None:
        if trouble is not None:
            raise trouble
        self.number = 1

    @method("beside.number")
    async def own_number(self) -> int:
        return self.number
