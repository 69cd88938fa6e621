"""From bytes to characters, as browsers do it (WHATWG Encoding): by mark, by what the document declares, as UTF-8."""

from __future__ import annotations

import codecs
import re
from html.parser import HTMLParser
from typing import Final

from trunkline.methods.documents.blocks import Unreadable

SNIFFED: Final = 4096
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Neither of these looks at a character more than a few times, whatever the text (tests/methods/test_linear_time.py).
_CHARSET: Final = re.compile(r"charset\s*=\s*(?:[\"']\s*)?([\w.:-]+)", re.IGNORECASE)
_XML: Final = re.compile(r"\s*<\?xml\s([^<>?]*)\?>")
_XML_ENCODING: Final = re.compile(r"encoding\s*=\s*[\"']([\w.:-]+)[\"']")
_CONTROLS: Final = re.compile(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f\x7f]")
# Bytes that windows-1252 has no character for: they are controls, as in Latin-1.
_UNDEFINED: Final = {0xDC00 + byte: byte for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}
# Of these WHATWG's decoders know more than Python's of the same name.
_DECODERS: Final = {"windows-1252": "windows-1252", "gbk": "gb18030", "shift_jis": "cp932", "euc-kr": "cp949"}
_MULTIBYTE: Final = re.compile("[^\x00-\x7f\ufffd]")


def decode(data: bytes, declared: str | None = None) -> tuple[str, str | None]:
    """Bytes as text, and a note where the encoding was a guess, or bytes were replaced.

    By the byte order mark, by what the document declares, as UTF-8, and else as Windows-1252, which always succeeds.
    Single bytes that are no UTF-8, in a text that is UTF-8 otherwise, are replaced; all others are as they were.

    Raises:
        Unreadable: the data are binary.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _marked(data[len(mark) :], encoding)
    refuse_binary(data)
    said = _python_name(declared) if declared is not None else None
    if said is not None and said != "utf-8":
        if said == "windows-1252":
            return _windows(data), None
        text = data.decode(said, errors="replace")
        return text, _replaced(text, said)
    text = data.decode("utf-8", errors="replace")
    bad = text.count("\ufffd") - data.count(b"\xef\xbf\xbd")
    if not bad:
        return text, None
    if said is not None or len(_MULTIBYTE.findall(text)) >= bad:
        return text, _replaced(text, "utf-8")
    return _windows(data), "it is not UTF-8, and was read as windows-1252"


def _marked(data: bytes, encoding: str) -> tuple[str, str | None]:
    if encoding == "utf-8":
        text = data.decode(encoding, errors="replace")
        return text, _replaced(text, encoding) if "\ufffd" in text else None
    try:
        return data.decode(encoding), None
    except UnicodeDecodeError as error:
        raise Unreadable(f"it has the mark of {encoding} and is damaged at byte {error.start}") from error


def _windows(data: bytes) -> str:
    return data.decode("windows-1252", errors="surrogateescape").translate(_UNDEFINED)


def _replaced(text: str, encoding: str) -> str | None:
    count = text.count("\ufffd")
    if not count:
        return None
    line = text.count("\n", 0, text.index("\ufffd")) + 1
    return f"bytes of it that are no {encoding} were replaced by \ufffd: {count}, the first in line {line}"


def declared_encoding(page: bytes) -> str | None:
    """The encoding that a page says it has, in its XML declaration or by ``<meta>``; comments do not count."""
    begun = page[:SNIFFED].decode("latin-1")
    if (declaration := _XML.match(begun)) is not None and (found := _XML_ENCODING.search(declaration[1])) is not None:
        return found[1]
    parser = _Metas()
    parser.feed(begun)
    return parser.charset


class _Metas(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.charset: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta" or self.charset is not None:
            return
        said = {name: value or "" for name, value in attrs}
        if "charset" in said:
            self.charset = said["charset"].strip()
        elif said.get("http-equiv", "").lower() == "content-type":
            found = _CHARSET.search(said.get("content", ""))
            self.charset = found[1] if found is not None else None


def _python_name(label: str) -> str | None:
    """The codec of an encoding's label, by WHATWG's table; of UTF-16, which a page cannot declare, UTF-8."""
    import webencodings

    found = webencodings.lookup(label)
    if found is None or found.name in ("x-user-defined", "replacement"):
        return None
    if found.name.startswith("utf-16"):
        return "utf-8"
    name: str = _DECODERS.get(found.name, found.codec_info.name)
    return name


def refuse_binary(data: bytes) -> None:
    """Refuse what cannot be text in an encoding of single bytes.

    Raises:
        Unreadable: with the place of a NUL, or with the share of control characters.
    """
    if (place := data.find(b"\x00")) >= 0:
        raise Unreadable(f"it is binary: there is a NUL at byte {place} (save UTF-16 with its mark, or as UTF-8)")
    sample = data[: 16 * SNIFFED]
    controls = len(_CONTROLS.findall(sample))
    if controls * 50 > len(sample):
        raise Unreadable(f"it is binary: {controls} of its first {len(sample)} bytes are control characters")
