"""The packs that come with Trunkline, known without importing them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack: the module an executor imports, what has to be installed for it, and the extra that brings it.

    Attributes:
        keyed: whether it has methods with a routing key, so that it can be in one group only.
    """

    module: str
    requires: tuple[str, ...]
    extra: str = "ml"
    keyed: bool = False


PACKS: Final = {
    "embeddings": Pack("trunkline.methods.embeddings", ("torch", "sentence_transformers")),
    "vectors": Pack("trunkline.methods.vectors", ("faiss", "numpy"), keyed=True),
    "documents": Pack(
        "trunkline.methods.documents",
        (
            "semantic_text_splitter",
            "tokenizers",
            "lxml",
            "mammoth",
            "markdown_it",
            "pypdf",
            "webencodings",
            "yaml",
            "openpyxl",
            "pptx",
            "PIL",
        ),
        extra="docs",
    ),
    "rag": Pack("trunkline.methods.rag", ("numpy",)),
}


def is_installed(name: str) -> bool:
    """Whether everything the pack needs can be found. Imports nothing."""
    return not missing_modules(name)


def missing_modules(name: str) -> list[str]:
    """The modules that the pack needs and that are not installed."""
    return [module for module in PACKS[name].requires if importlib.util.find_spec(module) is None]


def installed_packs() -> list[str]:
    """The names of the packs that can be served with what is installed."""
    return [name for name in PACKS if is_installed(name)]
