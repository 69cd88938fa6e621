"""Calling ``collections.*`` and ``vectors.*`` without a hub. Texts are embedded by counting their words."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.methods.packs import word_embeddings
from trunkline.methods import vectors
from trunkline.methods.local import LocalMethods
from trunkline_protocol.errors import RpcError


def serve(folder: Path, **settings: Any) -> LocalMethods:
    return LocalMethods(word_embeddings, vectors, settings={"data_dir": str(folder), **settings})


async def refused(code: int, says: str, call: Any) -> RpcError:
    with pytest.raises(RpcError, match=says) as caught:
        await call
    assert caught.value.code == code, caught.value
    return caught.value


async def put(methods: LocalMethods, collection: str, *items: dict[str, Any]) -> Any:
    return await methods.call("vectors.upsert", {"collection": collection, "items": list(items)})


async def nearest(methods: LocalMethods, collection: str, **query: Any) -> list[str]:
    found = await methods.call("vectors.search", {"collection": collection, **query})
    return [match["id"] for match in found["matches"]]


def base64_of(*numbers: float) -> str:
    return base64.b64encode(np.array(numbers, dtype="<f4").tobytes()).decode()
