"""Text embeddings from a sentence-transformers model, in the shape OpenAI clients know."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field

from trunkline.methods.embeddings.model import FoundModel, find_model, load_model
from trunkline.methods.registry import method
from trunkline_protocol.errors import ErrorCode, RpcError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

MAX_INPUTS: Final = 2048
BATCH_SIZE: Final = 32

Text = Annotated[str, Field(min_length=1, max_length=200_000)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)]


class Embeddings:
    """The model of this executor."""

    def __init__(self) -> None:
        self._model: SentenceTransformer | None = None
        self._found: FoundModel | None = None

    def load(self, settings: Mapping[str, Any]) -> None:
        """Load and warm the model named by ``settings["model"]``."""
        self._found = find_model(settings["model"])
        self._model = load_model(self._found)
        self._encode(["warm-up"])

    @method("embeddings.create", idempotent=True)
    def create(
        self,
        input: Text | Texts,  # the name OpenAI clients send
        encoding_format: Literal["float", "base64"] = "float",
        model: str | None = None,
    ) -> dict[str, Any]:
        """Embed texts: unit vectors, one per text, in order.

        Returns ``{object, data: [{object, index, embedding}], model, usage: {prompt_tokens, total_tokens}}``;
        base64 is little-endian float32.
        """
        assert self._model is not None
        assert self._found is not None
        if model not in (None, self._found.name):
            raise RpcError(
                ErrorCode.INVALID_CONFIGURATION,
                f"model {model!r:.200} is not loaded; this hub serves {self._found.name}",
            )
        texts = [input] if isinstance(input, str) else input
        vectors = self._encode(texts)
        tokens = sum(len(ids) for ids in self._model.tokenizer(list(texts), truncation=True)["input_ids"])
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": _encoded(vector, encoding_format)}
                for index, vector in enumerate(vectors)
            ],
            "model": self._found.name,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts; (n, dimension) float32, rows of length 1. The library sorts by length itself."""
        assert self._model is not None
        vectors: NDArray[np.float32] = self._model.encode(
            list(texts),
            batch_size=BATCH_SIZE,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return vectors


def _encoded(vector: NDArray[np.float32], encoding_format: str) -> Any:
    if encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector
