"""The pack ``embeddings``: texts to vectors, with a sentence-transformers model.

The answer has the shape of OpenAI's embeddings endpoint. Vectors have length 1, so that their inner product is the
cosine of the angle between them. A text is read up to the model's ``max_seq_length`` (256 tokens for the default
model) and no further, as sentence-transformers does; the answer says of which texts that was not all.

Calls of all connections share passes through the model, on a thread of their own; vectors are kept for a while
(:mod:`trunkline.methods.embeddings.service`).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NotRequired

import orjson
from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from trunkline import Context, ErrorCode, RpcError, method
from trunkline.defaults import DEFAULT_MODEL, EMBEDDING_CACHE_BYTES, EMBEDDING_CACHE_SECONDS
from trunkline.methods.caching import Cleared
from trunkline.methods.embeddings import service
from trunkline.methods.embeddings.model import LoadedModel, load_model

MAX_INPUTS: Final = 2048
ENCODED_ON_LOOP: Final = 64
"""Vectors; the JSON of more is made on a thread, so that others' answers do not wait for it."""


VECTOR: Final[dict[str, Any]] = {"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}]}
"""Told of a vector, of which each number is not looked at once more."""


class Embedding(TypedDict):
    """One vector: a list of numbers, or little-endian float32 in base64."""

    object: Literal["embedding"]
    index: int
    embedding: Annotated[Any, WithJsonSchema(VECTOR)]


class Usage(TypedDict):
    """Tokens the model read, its own marks (``[CLS]``, ``[SEP]``) included."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(TypedDict):
    """The result of ``embeddings.create``; ``data`` is in the order of the input.

    ``truncated`` is there where the model read only the beginning of some texts: their places in the input.
    """

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage
    truncated: NotRequired[list[int]]


class EmbeddingModel(TypedDict):
    """The model that is loaded, the dimension of its vectors, and how many tokens of a text it reads."""

    model: str
    dimension: int
    max_tokens: int


Tokens = Annotated[list[Annotated[int, Field(strict=True)]], Field(min_length=1)]
"""A text as the numbers that the model's own tokenizer has for it."""


class EmbeddingMethods:
    """The method ``embeddings.create``, with one model, which each executor loads once."""

    def __init__(self) -> None:
        self._service: service.EmbeddingService | None = None

    async def load(self, settings: Mapping[str, Any]) -> None:
        """Load the model of ``settings["model"]``.

        Raises:
            RpcError: 4001, 4002 or 3002; see :func:`load_model`.
        """
        model = load_model(
            settings.get("model") or DEFAULT_MODEL,
            settings.get("embedding_backend") or "auto",
            settings.get("data_dir"),
        )
        self._service = service.EmbeddingService(
            model,
            settings.get("embedding_cache_bytes", EMBEDDING_CACHE_BYTES),
            settings.get("embedding_cache_seconds", EMBEDDING_CACHE_SECONDS),
        )

    def close(self) -> None:
        """Stop the threads of the service."""
        if self._service is not None:
            self._service.close()

    def cache_names(self) -> list[str]:
        """The caches that :meth:`clear_cache` knows."""
        return ["embeddings"]

    def clear_cache(self, cache_type: str) -> dict[str, Cleared]:
        """Forget vectors (``embeddings``, or ``all``)."""
        if self._service is None or cache_type not in ("embeddings", "all"):
            return {}
        return {"embeddings": self._service.cache.clear()}

    @method("embeddings.create", idempotent=True, timeout_ms=120_000, max_timeout_ms=600_000)
    async def create(
        self,
        input: str | list[str] | Tokens | list[Tokens],
        ctx: Context,
        encoding_format: Literal["float", "base64"] = "float",
        model: str | None = None,
        dimensions: Annotated[int, Field(ge=1)] | None = None,
    ) -> EmbeddingList:
        """Embed one text, or a list of up to 2048. ``base64`` is little-endian float32, smaller than numbers.

        A text may also be the numbers of its tokens. Fewer ``dimensions`` are for models that were trained for it.

        Raises:
            RpcError: -32602, empty or too much input, tokens of another tokenizer, or dimensions that the model has
                not; 4001, another model than the one that is loaded.
        """
        embeddings = self._service
        assert embeddings is not None
        name = embeddings.model.name
        if model is not None and model not in names_of(name):
            raise RpcError(
                ErrorCode.INVALID_CONFIGURATION,
                f"embeddings.create: model {model!r:.200} is not loaded; this hub has {name}: "
                "leave model out, or set TRUNKLINE_MODEL and start the hub again",
                maybe_executed=False,
                data={"no_such": "model"},
            )
        _check_dimensions(embeddings.model, dimensions)
        texts = await self._texts(input)
        priority = ctx.metadata.get("priority", "normal")
        found = await embeddings.embed(texts, ctx.deadline, priority, ctx.principal.tenant)
        if dimensions is not None and dimensions < embeddings.model.dimension:
            found = embeddings.shortened(found, dimensions)
        as_json = _base64 if encoding_format == "base64" else _numbers
        if len(found) <= ENCODED_ON_LOOP:
            vectors = as_json(found)
        else:
            vectors = await embeddings.on_thread(as_json, found)
        tokens = sum(each.tokens for each in found)
        truncated = [index for index, each in enumerate(found) if each.cut]
        answer: EmbeddingList = {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)
            ],
            "model": name,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        if truncated:
            answer["truncated"] = truncated
        return answer

    @method("embeddings.model", idempotent=True)
    async def model(self) -> EmbeddingModel:
        """The model that texts are embedded with."""
        assert self._service is not None
        loaded = self._service.model
        return {"model": loaded.name, "dimension": loaded.dimension, "max_tokens": loaded.tokenizer.max_tokens}

    async def _texts(self, given: str | list[str] | list[int] | list[list[int]]) -> list[str]:
        """The texts of an input, which is not empty and not too long.

        Raises:
            RpcError: -32602.
        """
        assert self._service is not None
        inputs: list[Any] = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else [*given]
        _check_input(inputs)
        if isinstance(inputs[0], str):
            return inputs
        return await self._service.on_thread(self._decoded, inputs)

    def _decoded(self, inputs: Sequence[list[int]]) -> list[str]:
        assert self._service is not None
        texts = []
        for index, numbers in enumerate(inputs):
            try:
                texts.append(self._service.model.tokenizer.text_of(numbers))
            except ValueError as error:
                words = f"input[{index}]: {error}; send the text (langchain-openai: check_embedding_ctx_length=False)"
                raise RpcError(ErrorCode.INVALID_PARAMS, f"embeddings.create: {words}") from None
        return texts


def names_of(model: str) -> set[str]:
    """The names that callers may use for a model: in full, without folder or owner, without precision."""
    plain = model.partition("#")[0]
    return {name for each in (model, plain) for name in (each, each.rpartition("/")[2])}


def _check_dimensions(model: LoadedModel, wanted: int | None) -> None:
    """Check that vectors of the model may have so many components.

    Raises:
        RpcError: -32602.
    """
    if wanted is None or wanted == model.dimension or wanted in model.shorter:
        return
    words = f"dimensions: the vectors of {model.name} have {model.dimension}"
    if wanted < model.dimension:
        words += f", and it was not trained to have them cut to {wanted}"
    raise RpcError(ErrorCode.INVALID_PARAMS, f"embeddings.create: {words}; leave dimensions out")


def _check_input(texts: Sequence[str | list[int]]) -> None:
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


def _base64(found: Sequence[service.Embedding]) -> list[Any]:
    return [base64.b64encode(each.vector).decode("ascii") for each in found]


def _numbers(found: Sequence[service.Embedding]) -> list[Any]:
    """JSON already: a float32 in the fewest digits that mean it; a Python float would have twice as many."""
    import numpy as np

    return [
        orjson.Fragment(orjson.dumps(np.frombuffer(each.vector, "<f4"), option=orjson.OPT_SERIALIZE_NUMPY))
        for each in found
    ]
