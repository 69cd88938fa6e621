"""From mails, books and tables to blocks of text, by Python's own libraries."""

from __future__ import annotations

import csv
import email
import email.policy
import io
import posixpath
from email.message import EmailMessage
from typing import Final
from urllib.parse import unquote
from xml.etree import ElementTree

from trunkline.methods.documents.blocks import FileText, TextBuilder, Unreadable, paragraphs_of
from trunkline.methods.documents.encodings import declared_encoding, decode
from trunkline.methods.documents.html import read_html, reading_as
from trunkline.methods.documents.office import open_archive, row_of

MAX_CELL: Final = 2**20
_HEADERS: Final = ("From", "To", "Cc", "Date", "Subject")
_OPF: Final = "{http://www.idpf.org/2007/opf}"
_TITLE: Final = "{http://purl.org/dc/elements/1.1/}title"
_ROOTFILE: Final = "{urn:oasis:names:tc:opendocument:xmlns:container}rootfile"


def read_csv(text: str, note: str | None = None) -> FileText:
    """The rows of a table, by whichever of comma, semicolon and tabulator its first lines have most of."""
    begun = text[:4096]
    delimiter = max(",;\t", key=begun.count)
    built = TextBuilder()
    csv.field_size_limit(MAX_CELL)
    with reading_as("csv"):
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            built.add("table_row", row_of(row))
    return built.build(note=note)


def read_eml(data: bytes) -> FileText:
    """The text of a mail: who wrote when of what, and its body. Attachments are not read, and named.

    Raises:
        Unreadable: it is no mail.
    """
    with reading_as("mail"):
        message = email.message_from_bytes(data, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        said = [(name, str(message[name])) for name in _HEADERS if message[name]]
        if not said:
            raise Unreadable("it is no mail: it has neither a subject nor a sender")
        built = TextBuilder()
        for name, value in said:
            built.add("definition", f"{name}: {value}")
        texts, names = _parts(message)
        notes = [f"attachments are not read: {', '.join(names)}"] if names else []
        for part in texts:
            body, note = _body(part)
            built.extend(body)
            notes += [note] if note else []
    return built.build(str(message["Subject"] or "") or None).noted(*notes)


def _parts(message: EmailMessage) -> tuple[list[EmailMessage], list[str]]:
    """The parts that are the text of a mail, in order, of alternatives the plain one; and the names of all others."""
    texts: list[EmailMessage] = []
    others: list[str] = []
    waiting = [message]
    while waiting:
        part = waiting.pop()
        kind = part.get_content_type()
        if kind == "multipart/alternative" and (best := _plainest(part)) is not None:
            waiting.append(best)
        elif kind.startswith("multipart/"):
            waiting += [each for each in reversed(list(part.iter_parts())) if isinstance(each, EmailMessage)]
        elif kind in ("text/plain", "text/html") and not part.is_attachment() and not part.get_filename():
            texts.append(part)
        else:
            others.append(part.get_filename() or kind)
    return texts, others


def _plainest(message: EmailMessage) -> EmailMessage | None:
    """The one of some alternatives that has no markup, or least."""
    parts = [part for part in message.iter_parts() if isinstance(part, EmailMessage)]

    def rank(part: EmailMessage) -> int:
        kinds = {each.get_content_type() for each in part.walk()}
        return 0 if "text/plain" in kinds else 1 if "text/html" in kinds else 2

    return min(parts, key=rank, default=None)


def _body(part: EmailMessage) -> tuple[FileText, str | None]:
    data = part.get_payload(decode=True)
    assert isinstance(data, bytes)
    text, note = _characters(data, part.get_content_charset("us-ascii"))
    text = text.replace("\r\n", "\n")
    if part.get_content_subtype() == "html":
        return (read_html(text) if text.strip() else FileText(None, "")), note
    return FileText(None, text, paragraphs_of(text)), note


def _characters(data: bytes, charset: str) -> tuple[str, str | None]:
    """Bytes as text, by the charset they are said to have where it is one and fits, else by a guess that is told."""
    try:
        return data.decode(charset), None
    except (LookupError, UnicodeError):
        text, note = decode(data)
        return text, note or f"it is no {charset:.40}, which it says it is, and was read as UTF-8"


def read_epub(data: bytes) -> FileText:
    """The text of a book, chapter by chapter in reading order.

    Raises:
        Unreadable: damaged, encrypted, or more than it seems.
    """
    built = TextBuilder()
    with reading_as("epub"), open_archive(data) as archive:
        names = set(archive.namelist())
        if "META-INF/encryption.xml" in names and b"EncryptedData" in archive.read("META-INF/encryption.xml"):
            raise Unreadable("parts of it are encrypted: save it without protection")
        # Bounded by open_archive; entities that multiply are refused by expat 2.4 and later.
        container = ElementTree.fromstring(archive.read("META-INF/container.xml"))  # noqa: S314
        rootfile = container.find(f".//{_ROOTFILE}")
        path = rootfile.get("full-path", "") if rootfile is not None else ""
        package = ElementTree.fromstring(archive.read(path))  # noqa: S314
        hrefs = {each.get("id"): each.get("href", "") for each in package.iter(f"{_OPF}item")}
        missing = []
        for reference in package.iter(f"{_OPF}itemref"):
            href = hrefs.get(reference.get("idref"), "")
            chapter = posixpath.normpath(posixpath.join(posixpath.dirname(path), unquote(href)))
            if chapter not in names:
                missing.append(href)
                continue
            page = archive.read(chapter)
            text, _ = decode(page, declared_encoding(page))
            built.extend(read_html(text))
    note = f"chapters are missing in it: {', '.join(missing):.200}" if missing else None
    return built.build(package.findtext(f".//{_TITLE}"), note)
