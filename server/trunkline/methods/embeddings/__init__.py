"""The pack ``embeddings``: texts to vectors, with a sentence-transformers model.

The answer has the shape of OpenAI's embeddings endpoint. Vectors have length 1, so that their inner product is the
cosine of the angle between them. A text is read up to the model's ``max_seq_length`` (256 tokens for the default
model) and no further, as sentence-transformers does. Lists of token numbers, which OpenAI takes, are not taken.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from typing_extensions import TypedDict

from trunkline.methods.context import Context
from trunkline.methods.embeddings.model import DEFAULT_MODEL, LoadedModel, load_model
from trunkline.methods.registry import method
from trunkline_protocol.errors import ErrorCode, RpcError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_INPUTS: Final = 2048
BATCH_TOKENS: Final = 2048
"""Tokens of one forward pass, padding included: what bounds memory, and how long a cancel waits."""


class Embedding(TypedDict):
    """One vector: a list of numbers, or little-endian float32 in base64."""

    object: Literal["embedding"]
    index: int
    embedding: Any


class Usage(TypedDict):
    """Tokens the model read, its own marks (``[CLS]``, ``[SEP]``) included."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(TypedDict):
    """What ``embeddings.create`` returns. ``data`` is in the order of the input."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class EmbeddingMethods:
    """One model, loaded once an executor."""

    def __init__(self) -> None:
        self._model: LoadedModel | None = None

    def load(self, settings: Mapping[str, Any]) -> None:
        """Load the model of ``settings["model"]``.

        Raises:
            RpcError: 4001, 4002 or 3002; see :func:`load_model`.
        """
        self._model = load_model(settings.get("model") or DEFAULT_MODEL)

    @method("embeddings.create", idempotent=True, timeout_ms=120_000, max_timeout_ms=600_000)
    def create(
        self,
        input: str | list[str],
        ctx: Context,
        encoding_format: Literal["float", "base64"] = "float",
        model: str | None = None,
    ) -> EmbeddingList:
        """Embed one text, or up to 2048. ``base64`` is little-endian float32, a quarter of the size of numbers.

        Raises:
            RpcError: -32602, empty or too much input; 4001, another model than the one that is loaded.
        """
        assert self._model is not None
        if model is not None and model not in (self._model.name, self._model.name.rpartition("/")[2]):
            raise RpcError(
                ErrorCode.INVALID_CONFIGURATION,
                f"embeddings.create: model {model!r:.200} is not loaded; this hub has {self._model.name}: "
                "leave model out, or set TRUNKLINE_MODEL and start the hub again",
            )
        texts = [input] if isinstance(input, str) else input
        _check_input(texts)
        vectors, tokens = encode(self._model, texts, ctx)
        as_json = _base64 if encoding_format == "base64" else _numbers
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": as_json(vector)}
                for index, vector in enumerate(vectors)
            ],
            "model": self._model.name,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }


def encode(model: LoadedModel, texts: list[str], ctx: Context) -> tuple[NDArray[np.float32], int]:
    """Vectors in the order of ``texts``, each of length 1, and the number of tokens read.

    Texts of like length share a batch, so that little is padding. A cancel is seen between batches.

    Raises:
        RpcError: -32800; 3003, where the model makes vectors that are not finite.
    """
    import numpy as np

    encoder = model.encoder
    # Counted apart from the encoder, which does not say: a hundredth of the time of embedding.
    tokenized = encoder.tokenizer(texts, truncation=True, max_length=encoder.max_seq_length)
    lengths = [len(ids) for ids in tokenized["input_ids"]]
    vectors: NDArray[np.float32] | None = None
    for batch in batches(lengths, BATCH_TOKENS):
        ctx.raise_if_cancelled()
        part = encoder.encode(
            [texts[i] for i in batch],
            batch_size=len(batch),
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        if vectors is None:
            vectors = np.empty((len(texts), part.shape[1]), dtype="<f4")
        vectors[batch] = part
    assert vectors is not None
    if not np.isfinite(vectors).all():
        raise RpcError(ErrorCode.PIPELINE_EXECUTION_ERROR, f"{model.name} made a vector that is not finite")
    return vectors, sum(lengths)


def batches(lengths: list[int], budget: int) -> Iterator[list[int]]:
    """Group indices by length, longest first, so that no group has more than ``budget`` tokens with its padding.

    A text longer than the budget is a group of its own.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _check_input(texts: list[str]) -> None:
    if not texts:
        raise RpcError(ErrorCode.INVALID_PARAMS, "embeddings.create: input is empty; give a text, or a list of texts")
    if len(texts) > MAX_INPUTS:
        raise RpcError(
            ErrorCode.INVALID_PARAMS,
            f"embeddings.create: input has {len(texts)} texts, more than {MAX_INPUTS}; send them in several calls",
        )
    for index, text in enumerate(texts):
        if not text:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"embeddings.create: input[{index}] is an empty text")


def _base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.tobytes()).decode("ascii")


def _numbers(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """As it is: the encoder writes a float32 in the fewest digits that mean it, a Python float in twice as many."""
    return vector
