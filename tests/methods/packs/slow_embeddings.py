"""``embeddings.create`` as in :mod:`word_embeddings`; a text with the word ``wait`` is never answered.

While one waits, the file that ``WAITING`` names is there.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from tests.methods.packs.word_embeddings import WordEmbeddings
from trunkline.methods.registry import method


class SlowEmbeddings(WordEmbeddings):
    @method("embeddings.create", idempotent=True)
    async def create(self, input: list[str], encoding_format: str = "float") -> dict[str, Any]:
        if any("wait" in text.split() for text in input):
            waiting = os.environ["WAITING"]
            os.close(os.open(waiting, os.O_CREAT))
            try:
                await asyncio.sleep(3600)
            finally:
                os.unlink(waiting)
        return await super().create(input, encoding_format)
