"""The tokens of the embedding model: what a passage is measured in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trunkline import ErrorCode, RpcError
from trunkline.methods.embeddings.model import FoundModel, ModelError, find_model

if TYPE_CHECKING:
    from tokenizers import Tokenizer

DEFAULT_TOKENS: Final = 256
"""What a passage has at most by default, the model's own marks included; less where the model reads less."""
MIN_TOKENS: Final = 8


@dataclass(frozen=True, slots=True)
class ModelTokens:
    """The tokens of a model.

    Attributes:
        marks: how many tokens it adds to each text (``[CLS]``, ``[SEP]``).
        limit: how many it reads, those included.
    """

    tokenizer: Tokenizer
    marks: int
    limit: int

    def sizes(self, chunk_tokens: int | None, overlap_tokens: int) -> tuple[int, int]:
        """Tokens of a passage and of the overlap of two, without the marks.

        Raises:
            RpcError: -32602, more than the model reads, or an overlap of half a passage and more.
        """
        most = self.limit - self.marks
        tokens = min(most, DEFAULT_TOKENS - self.marks) if chunk_tokens is None else chunk_tokens
        if not tokens <= most:
            raise RpcError(
                ErrorCode.INVALID_PARAMS, f"options.chunk_tokens: {tokens} is more than the {most} that the model reads"
            )
        if overlap_tokens * 2 > tokens:
            raise RpcError(
                ErrorCode.INVALID_PARAMS,
                f"options.overlap_tokens: {overlap_tokens} is more than half of a passage's {tokens} tokens",
            )
        return tokens, overlap_tokens


def load_tokens(setting: str) -> ModelTokens:
    """The tokens of the model that ``TRUNKLINE_MODEL`` means.

    Raises:
        RpcError: 4001, the setting means no model; 3002, its tokenizer cannot be loaded.
    """
    from tokenizers import Tokenizer

    try:
        found = find_model(setting)
    except ModelError as error:
        raise RpcError(ErrorCode.INVALID_CONFIGURATION, str(error)) from error
    try:
        tokenizer = Tokenizer.from_file(str(_file(found, "tokenizer.json")))
        truncated = (tokenizer.truncation or {}).get("max_length", DEFAULT_TOKENS)
        limit = _sequence_length(found) or truncated
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise RpcError(
            ErrorCode.PIPELINE_INITIALIZATION_FAILED,
            f"the tokenizer of the embedding model {setting} cannot be loaded: {type(error).__name__}: {error}",
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return ModelTokens(tokenizer, tokenizer.num_special_tokens_to_add(False), limit)


def _sequence_length(found: FoundModel) -> int | None:
    """``max_seq_length`` as sentence-transformers has it beside a model."""
    try:
        config = json.loads(_file(found, "sentence_bert_config.json").read_bytes())
    except OSError:  # not there; the Hub's own errors are of that kind, too
        return None
    length = config.get("max_seq_length") if isinstance(config, dict) else None
    return length if isinstance(length, int) else None


def _file(found: FoundModel, name: str) -> Path:
    if found.local:
        return Path(found.path_or_name) / name
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(found.path_or_name, name))
