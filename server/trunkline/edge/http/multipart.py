"""Reads ``multipart/form-data`` as it arrives (RFC 7578); each field that is whole goes into the params of a call."""

from __future__ import annotations

import logging
import re
from typing import Final

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.form_fields import Field, FormParams

MAX_PART_HEADERS: Final = 8
MAX_HEADER_BYTES: Final = 4 * 1024
"""Of one header of a part, which has :data:`MAX_PART_HEADERS` at most."""

_BOUNDARY: Final = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_AS_IT_IS: Final = frozenset({"", "7bit", "8bit", "binary"})
_CHARSETS: Final = frozenset({b"", b"utf-8", b"utf8", b"us-ascii"})

# What is wrong with a form is told to its sender: it is no news for the hub's log.
logging.getLogger("python_multipart").setLevel(logging.ERROR)


class FormReader:
    """Reads one form.

    Args:
        content_type: of the whole body; has the boundary.
        params: given the fields.

    Raises:
        RpcError: -32700, there is no valid boundary.
    """

    def __init__(self, content_type: str, params: FormParams) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        if not _BOUNDARY.fullmatch(boundary):
            raise _unreadable("its Content-Type has to have a boundary of 1 to 70 characters (RFC 2046)")
        self._params = params
        self._headers: dict[str, bytes] = {}
        self._name = b""
        self._value = b""
        self._field: Field | None = None
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
            max_header_count=MAX_PART_HEADERS,
            max_header_size=MAX_HEADER_BYTES,
        )

    def take(self, data: bytes) -> None:
        """Read on.

        Raises:
            RpcError: -32700, this is no form; and what :class:`FormParams` raises of its fields.
        """
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _unreadable(str(error)) from None

    def finish(self) -> None:
        """Refuse a form (-32700) that does not end with its closing boundary."""
        if not self._ended:
            raise _unreadable("its closing boundary is missing")

    # --- of the parser ---

    def _on_part_begin(self) -> None:
        self._headers = {}

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        name = self._name.decode("latin-1").lower()
        if name in self._headers:
            raise _unreadable(f"a part has two headers {name:.100}")
        self._headers[name] = self._value
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        field = _field_of(self._headers)
        self._params.expect(field.name)
        self._field = field

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        assert self._field is not None, "a part's headers come before its data"
        self._field.data += memoryview(data)[start:end]

    def _on_part_end(self) -> None:
        assert self._field is not None, "a part's headers come before its end"
        self._params.add(self._field)
        self._field = None

    def _on_end(self) -> None:
        self._ended = True


def _field_of(headers: dict[str, bytes]) -> Field:
    """The field that a part's headers announce, without data yet."""
    disposition, named = parse_options_header(headers.get("content-disposition"))
    if disposition != b"form-data" or b"name" not in named:
        raise _unreadable('a part has no Content-Disposition: form-data; name="..."')
    name = _text(named[b"name"])
    filename = named.get(b"filename")
    kind, options = parse_options_header(headers.get("content-type"))
    media_type = kind.decode("latin-1")
    if media_type.startswith("multipart/"):
        raise _unreadable(f"field {name:.100} is a form itself; send its files as fields of one name")
    if options.get(b"charset", b"").lower() not in _CHARSETS:
        raise _unreadable(f"field {name:.100} has to be UTF-8")
    if headers.get("content-transfer-encoding", b"").decode("latin-1").strip().lower() not in _AS_IT_IS:
        raise _unreadable(f"field {name:.100} has a Content-Transfer-Encoding; send it as it is")
    return Field(name, bytearray(), media_type, None if filename is None else _text(filename))


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise _unreadable(f"{name!r:.100}: names have to be UTF-8") from None


def _unreadable(words: str) -> RpcError:
    return RpcError(ErrorCode.PARSE_ERROR, f"not a valid form: {words}")
