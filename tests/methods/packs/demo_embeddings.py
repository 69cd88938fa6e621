"""``embeddings.create`` as in :mod:`slow_embeddings`, for a single text, too, as the demo asks for one.

Texts are held up that come several at a time, as passages do.
"""

from __future__ import annotations

from typing import Any

from tests.methods.packs.slow_embeddings import SlowEmbeddings
from trunkline.methods.declaration import method


class DemoEmbeddings(SlowEmbeddings):
    @method("embeddings.create", idempotent=True)
    async def create(self, input: list[str] | str, encoding_format: str = "base64") -> dict[str, Any]:
        texts = [input] if isinstance(input, str) else input
        held = ["wait"] if len(texts) > 8 else []
        result = await super().create([*texts, *held], "base64")
        return result | {"data": result["data"][: len(texts)]}
