"""``embeddings.create`` without a model, for tests of what stands on it: a text's vector counts its words.

Texts with a word in common are near each other. A text with the word ``wait`` is answered when :data:`gate` opens.
"""

from __future__ import annotations

import asyncio
import base64
import zlib
from typing import Any

import numpy as np

from trunkline.methods.declaration import method

DIMENSION = 256
MODEL = "words"


class WordEmbeddings:
    def load(self, settings: Any) -> None:
        self.model = settings.get("model", MODEL)
        self.dimension = settings.get("dimension", DIMENSION)
        self.gate: asyncio.Event | None = settings.get("gate")

    @method("embeddings.create", idempotent=True)
    async def create(self, input: list[str], encoding_format: str = "float") -> dict[str, Any]:
        assert encoding_format == "base64"
        if self.gate is not None and any("wait" in text.split() for text in input):
            await self.gate.wait()
        data = [{"index": i, "embedding": self._vector(text)} for i, text in enumerate(input)]
        return {"object": "list", "data": data, "model": self.model}

    def _vector(self, text: str) -> str:
        vector = np.zeros(self.dimension, dtype="<f4")
        for word in text.lower().replace(".", " ").replace("?", " ").split():
            vector[zlib.crc32(word.encode()) % self.dimension] += 1
        vector /= np.linalg.norm(vector) or 1
        return base64.b64encode(vector.tobytes()).decode()
