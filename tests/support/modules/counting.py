"""Methods that keep figures of their own."""

from __future__ import annotations

import os

from trunkline import method
from trunkline.methods.figures import counter, histogram

WORDS = counter("counting_words", "Words that were counted", labels=("language",))
SIZES = histogram("counting_sizes", "Words of a text", buckets=(1, 10))


@method("counting.words", idempotent=True)
async def words(text: str, language: str = "en") -> int:
    number = len(text.split())
    WORDS.add(number, language)
    SIZES.observe(number)
    return number


@method("counting.pid")
async def pid() -> int:
    return os.getpid()
