"""``embeddings.create`` as in :mod:`word_embeddings`; a text with the word ``wait`` is answered once a file is there.

The file is ``go`` in the folder that ``SIGNALS`` names; while a text waits, there is one called ``waiting``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

from tests.methods.packs.word_embeddings import WordEmbeddings
from trunkline.methods.declaration import method


class SlowEmbeddings(WordEmbeddings):
    @method("embeddings.create", idempotent=True)
    async def create(self, input: list[str], encoding_format: str = "float") -> dict[str, Any]:
        if any("wait" in text.split() for text in input):
            waiting, go = (os.path.join(os.environ["SIGNALS"], name) for name in ("waiting", "go"))
            os.close(os.open(waiting, os.O_CREAT))
            try:
                while not os.access(go, os.F_OK):
                    await asyncio.sleep(0.01)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(waiting)
        return await super().create(input, encoding_format)
