"""What a collection is: name, dimension, metric, model, index."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from trunkline.methods.vectors.index import IndexSpec, Metric

FORMAT_VERSION: Final = 3
"""Of what is written. Formats 1 and 2 were logs and snapshots (``vectors/former``)."""


class Manifest(BaseModel):
    """The description of a collection.

    Attributes:
        model: what made the vectors of texts; None as long as all vectors came from callers.
        index: ``kind``, and what that kind takes.
        format_version: of the files on disk.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    dimension: int
    model: str | None
    metadata: dict[str, Any]
    metric: Metric = "cosine"
    index: dict[str, Any] = {"kind": "flat"}
    format_version: int = FORMAT_VERSION

    @property
    def spec(self) -> IndexSpec:
        """The spec of the collection's index."""
        params = dict(self.index)
        return IndexSpec(dimension=self.dimension, metric=self.metric, kind=params.pop("kind"), params=params)

    def with_spec(self, spec: IndexSpec) -> Manifest:
        """A copy with another index."""
        return self.model_copy(update={"index": {"kind": spec.kind, **spec.params}})
