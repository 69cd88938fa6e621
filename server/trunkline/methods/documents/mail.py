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
        body = message.get_body(preferencelist=("plain", "html"))
        if isinstance(body, EmailMessage):
            built.extend(_body(body))
        names = [part.get_filename() or part.get_content_type() for part in message.iter_attachments()]
    note = f"attachments are not read: {', '.join(names)}" if names else None
    return built.build(str(message["Subject"] or "") or None, note)


def _body(part: EmailMessage) -> FileText:
    content = part.get_content()
    if part.get_content_subtype() == "html":
        return read_html(content) if content.strip() else FileText(None, "")
    return FileText(None, content, paragraphs_of(content))


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
