"""Embeds without a hub, in a process of its own with all cores: what ``bench.embeddings`` compares with.

Reads one JSON command a line: ``{"texts": [...], "batch": n}``; answers ``{"seconds": s}``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trunkline.methods.embeddings.model import Backend

Encode = Callable[[list[str], int], object]


def torch_encode(model: str) -> Encode:
    from trunkline.methods.embeddings.model import find_model, load_encoder

    encoder = load_encoder(find_model(model))
    return lambda texts, batch: encoder.encode(
        texts, batch_size=batch, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
    )


def converted_encode(model: str, backend: Backend, data: str) -> Encode:
    """As ``SentenceTransformer.encode`` goes about it: sorted by length, ``batch`` texts at a time."""
    from trunkline.methods.embeddings.encoder import Text
    from trunkline.methods.embeddings.model import load_model

    loaded = load_model(model, backend, data)

    def encode(texts: list[str], batch: int) -> None:
        ordered = [Text(text) for text in sorted(texts, key=len, reverse=True)]
        for start in range(0, len(ordered), batch):
            part = ordered[start : start + batch]
            loaded.tokenizer.read(part)
            loaded.run(part)

    return encode


def encode_of(model: str, backend: str, data: str) -> Encode:
    """What embeds with that backend."""
    match backend:
        case "torch":
            return torch_encode(model)
        case "openvino" | "openvino-int8":
            return converted_encode(model, backend, data)
        case _:
            raise SystemExit(f"no such backend: {backend}")


def main() -> None:
    model, backend, data = sys.argv[1:]
    encode = encode_of(model, backend, data)
    print(json.dumps({"threads": os.environ["OMP_NUM_THREADS"]}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        started = time.perf_counter()
        encode(command["texts"], command["batch"])
        print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)


if __name__ == "__main__":
    main()
