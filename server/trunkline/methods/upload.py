"""What a method declares that takes a file together with its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict

from trunkline_protocol.form_fields import UPLOAD_MARK


def _marked(schema: dict[str, Any]) -> None:
    schema[UPLOAD_MARK] = True


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that a caller sends: over HTTP a field of a form, or a whole body; elsewhere an object of these members.

    Attributes:
        data: the bytes.
        name: without folders, as the caller says; None where it has none.
        media_type: as the caller says, such as ``audio/wav``; None where it says none. Nothing checks that it is true.
    """

    __pydantic_config__: ClassVar = ConfigDict(json_schema_extra=_marked)

    data: bytes
    name: str | None = None
    media_type: str | None = None
