"""The manifest of a collection: ``collection.json`` in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from trunkline import ErrorCode, RpcError
from trunkline.methods.vectors.files import Files, replace, storage
from trunkline.methods.vectors.index import IndexSpec, Metric

FORMAT_VERSION: Final = 2
"""What is written. Format 1, which is read, had one log and no snapshots; it is left at the first write."""

_READ: Final = (1, 2)


class Manifest(BaseModel):
    """``collection.json``.

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


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest in a folder; None where there is none.

    Raises:
        RpcError: 3002, the file is damaged; 4001, of another format; 5001, it cannot be read.
    """
    path = folder / "collection.json"
    with storage(str(path)):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise RpcError(
            ErrorCode.PIPELINE_INITIALIZATION_FAILED, f"{path} is damaged ({problem}); restore it from a backup"
        ) from error
    if manifest.format_version not in _READ:
        raise RpcError(
            ErrorCode.INVALID_CONFIGURATION,
            f"collection {manifest.name!r} has format {manifest.format_version}; this version reads "
            f"{' and '.join(map(str, _READ))}: use the version of Trunkline that wrote it",
        )
    return manifest


def write_manifest(files: Files, folder: Path, manifest: Manifest) -> None:
    """Replace the manifest in a folder, durably: readers see the old one or the new one.

    Raises:
        OSError: the file cannot be written.
    """
    replace(files, folder / "collection.json", json.dumps(manifest.model_dump(), indent=2).encode())
