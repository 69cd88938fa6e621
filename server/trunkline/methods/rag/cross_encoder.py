"""A cross-encoder: a model that reads query and passage together, which is slower than vectors and often better."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from trunkline import ErrorCode, Passage, Retrieval, RpcError, technique
from trunkline.methods.rag.retrieval import BasicParams

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

READ: Final = 10
"""Passages that are read, by default: reading one takes tens of milliseconds."""
FOUND: Final = 50


class CrossEncoderParams(BasicParams):
    """``technique_params`` of ``cross_encoder``.

    Attributes:
        read: how many of the passages that ``hybrid`` finds are read and ranked; the others stay behind them.
    """

    read: Annotated[int, Field(ge=1, le=50)] = READ


@technique("cross_encoder", needs=("cross_encoder",))
async def cross_encoder(query: str, params: CrossEncoderParams, retrieval: Retrieval) -> AsyncIterator[Passage]:
    """The first passages of ``hybrid``, ranked by a model that reads each with the query."""
    found = await retrieval.hybrid(query, FOUND)
    read, others = found[: params.read], found[params.read :]
    scores = await retrieval.cross_scores(query, [each.text for each in read]) if read else []
    ranked = sorted(zip(scores, read, strict=True), key=lambda pair: -pair[0])
    for score, passage in ranked:
        yield replace(passage, score=score)
    last = ranked[-1][0] if ranked else 0.0
    for behind, passage in enumerate(others, 1):
        yield replace(passage, score=last - behind)


class CrossEncoderModel:
    """A cross-encoder of sentence-transformers, on a thread of its own: one call reads at a time.

    Args:
        path: a folder as ``CrossEncoder.save`` makes it. Nothing is fetched from elsewhere.

    Raises:
        RpcError: 4001, no such folder; 4002, sentence-transformers is not installed; 3002, it cannot be loaded.
    """

    def __init__(self, path: str) -> None:
        folder = Path(path).expanduser()
        if not folder.is_dir():
            words = (
                f"TRUNKLINE_CROSS_ENCODER={path}: no such folder; set the path of a sentence-transformers CrossEncoder"
            )
            raise RpcError(ErrorCode.INVALID_CONFIGURATION, words)
        self._model = _load(folder)
        self._thread = ThreadPoolExecutor(1, "cross-encoder")

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query: higher is better."""
        pairs = [(query, text) for text in texts]
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, pairs)

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _read(self, pairs: list[tuple[str, str]]) -> list[float]:
        return [float(score) for score in self._model.predict(pairs, batch_size=len(pairs), show_progress_bar=False)]


def _load(folder: Path) -> CrossEncoder:
    try:
        from sentence_transformers import CrossEncoder

        model: CrossEncoder = CrossEncoder(str(folder), num_labels=1, local_files_only=True, trust_remote_code=False)
        model.predict([("query", "text")], show_progress_bar=False)
    except ModuleNotFoundError as error:
        words = f"TRUNKLINE_CROSS_ENCODER needs {error.name}: pip install 'trunkline[ml]'"
        raise RpcError(ErrorCode.MISSING_DEPENDENCIES, words) from error
    except Exception as error:
        words = f"the cross-encoder {folder} cannot be loaded: {type(error).__name__}: {error}"
        raise RpcError(ErrorCode.PIPELINE_INITIALIZATION_FAILED, words) from error
    return model
