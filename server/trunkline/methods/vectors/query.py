"""The query of a caller, as a vector that can be compared with a collection's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trunkline import Context, ErrorCode, RpcError
from trunkline.methods.embeddings.client import embed
from trunkline.methods.vectors.manifest import Manifest
from trunkline.methods.vectors.numbers import as_vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


async def query_vector(
    manifest: Manifest,
    text: str | None,
    vector: Sequence[float] | str | None,
    model: str | None,
    ctx: Context,
) -> NDArray[np.float32]:
    """The vector that was given, or else that of the text.

    Args:
        model: what made ``vector``; if given, it must be the collection's.

    Raises:
        RpcError: -32602, an invalid vector; 4001, another model.
    """
    if vector is None:
        assert text is not None
        embedded = await embed(ctx, [text])
        row: NDArray[np.float32] = same_space(manifest, embedded.model, embedded.vectors)[0]
        return row
    check_model(manifest, model)
    given: NDArray[np.float32] = as_vectors([vector], manifest.dimension, manifest.metric, [f"{ctx.method}: vector"])[0]
    return given


def check_model(manifest: Manifest, model: str | None) -> None:
    """Check that vectors of a model can be compared with the collection's.

    Raises:
        RpcError: 4001, they cannot.
    """
    if None not in (model, manifest.model) and model != manifest.model:
        raise RpcError(
            ErrorCode.INVALID_CONFIGURATION,
            f"collection {manifest.name!r} has vectors of {manifest.model}, and this is one of {model}: set "
            "TRUNKLINE_MODEL to the former, or delete the collection and index its texts again",
        )


def same_space(manifest: Manifest, model: str, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vectors, if they can be compared with the collection's.

    Raises:
        RpcError: 4001, they cannot.
    """
    check_model(manifest, model)
    if vectors.shape[1] != manifest.dimension:
        raise RpcError(
            ErrorCode.INVALID_CONFIGURATION,
            f"collection {manifest.name!r} has dimension {manifest.dimension}, and {model} makes vectors of "
            f"{vectors.shape[1]}: give vectors instead of texts, or create a collection without dimension",
        )
    return vectors
