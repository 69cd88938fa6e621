"""Typed clients from an OpenRPC document: text in, text out, no IO.

``document.py`` reads the document, ``schema.py`` its JSON Schemas into the types of ``schema_types.py``;
``typescript.py`` and ``python.py`` write these in their language.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from trunkline.generate import python, typescript
from trunkline.generate.document import DocumentError, narrowed, read_document

GENERATORS: Final[dict[str, Callable[[Any], str]]] = {
    "python": lambda document: python.write(read_document(document, python.RESERVED)),
    "typescript": lambda document: typescript.write(read_document(document, typescript.RESERVED)),
}
"""Language -> the generator: takes an OpenRPC document (decoded JSON), gives the text of a source file.

Raises DocumentError for what is no OpenRPC document.
"""

__all__ = ["GENERATORS", "DocumentError", "narrowed"]
