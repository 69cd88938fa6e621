"""What methods of one executor's process count, as it is told to the hub."""

from __future__ import annotations

from typing import Literal

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """One metric of one process. A series is label values and numbers: of a counter one; of a histogram the count of
    each bucket, of what is above the last, and the sum."""

    name: str
    help: str
    kind: Literal["counter", "histogram"]
    labels: tuple[str, ...]
    series: list[tuple[tuple[str, ...], list[float]]]
    buckets: tuple[float, ...] = ()

    @property
    def shape(self) -> tuple[str, tuple[str, ...], tuple[float, ...]]:
        """Kind, labels and buckets: only figures of equal shape can be added up."""
        return self.kind, self.labels, self.buckets
