"""The techniques of ``rag.*`` over documentation whose headings are the questions: the table of docs/retrieval.md.

Two sets, ``sqlite`` and ``handbook``, may be used for tuning; ``python`` never was (see :mod:`bench.headings`). Each
is embedded once and its vectors are kept in a folder. Then a hub is started, and ``trunkline eval``'s own functions
ask it each question by each technique.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bench.headings import DOCUMENTATIONS, HeadedSection, sections

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEPT: Final = Path("/tmp/trunkline-bench-techniques")  # vectors of public texts, made anew where missing
TOKENS: Final = 250
PASS: Final = 16


def passages(found: list[HeadedSection]) -> list[dict[str, Any]]:
    """The sections cut by the model's tokens, with metadata as ingested documents have them."""
    from semantic_text_splitter import TextSplitter
    from tokenizers import Tokenizer

    from trunkline.defaults import DEFAULT_MODEL
    from trunkline.methods.embeddings.model import find_model

    tokenizer = Tokenizer.from_file(f"{find_model(DEFAULT_MODEL).path_or_name}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    splitter = TextSplitter.from_huggingface_tokenizer(tokenizer, TOKENS)
    items: list[dict[str, Any]] = []
    part = 0
    for section in found:
        part = part if items and items[-1]["metadata"]["source"] == section.page else 0
        for text in splitter.chunks(section.text):
            metadata = {"source": section.page, "section": section.id, "headings": section.above, "part": part}
            items.append({"id": f"{section.page}@{part}", "text": text, "metadata": metadata})
            part += 1
    return items


def vectors_of(texts: list[str], folder: Path) -> NDArray[np.float32]:
    """A vector a text, from the folder, or made now and kept there."""
    from trunkline.defaults import DEFAULT_MODEL
    from trunkline.methods.embeddings.encoder import Text
    from trunkline.methods.embeddings.model import load_model

    key = hashlib.blake2b("\0".join(texts).encode(), digest_size=8).hexdigest()
    file = folder / f"{key}.npy"
    if file.is_file():
        kept: NDArray[np.float32] = np.load(file)
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    model = load_model(DEFAULT_MODEL, "openvino", str(folder))  # torch's vectors, in a quarter of the time
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    vectors = np.empty((len(texts), 0), np.float32)
    for start in range(0, len(order), PASS):
        rows = order[start : start + PASS]
        batch = [Text(texts[row]) for row in rows]
        model.tokenizer.read(batch)
        made = model.run(batch)
        if not vectors.shape[1]:
            vectors = np.empty((len(texts), made.shape[1]), np.float32)
        vectors[rows] = made
    np.save(file, vectors)
    return vectors


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=DOCUMENTATIONS, action="append", help="only this set; may be repeated")
    parser.add_argument("--kept", type=Path, default=KEPT, help="folder of vectors")
    given = parser.parse_args()
    for name in given.set or DOCUMENTATIONS:
        items = passages(sections(DOCUMENTATIONS[name]))
        print(name, len(items), flush=True)
        vectors_of([item["text"] for item in items], given.kept)


if __name__ == "__main__":
    main()
