"""Which languages an embedding model knows: of others its vectors mean little, whatever it answers."""

from __future__ import annotations

from typing import Final

from trunkline.methods.languages.detection import base_language

ENGLISH: Final = ("all-minilm", "all-mpnet", "all-distilroberta", "multi-qa", "msmarco", "bge-small-en", "bge-base-en",
                  "bge-large-en", "gte-small", "gte-base", "gte-large", "e5-small", "e5-base", "e5-large")  # fmt: skip
"""What the names of models begin with that were trained on English alone."""


def knows(model: str, language: str) -> bool:
    """Whether a model knows a language, as far as its name says; one that is not known is taken to know all."""
    return base_language(language) == "en" or not is_english(model)


def is_english(model: str) -> bool:
    """Whether a model is known to have been trained on English alone."""
    return model.rpartition("/")[2].lower().startswith(ENGLISH)
