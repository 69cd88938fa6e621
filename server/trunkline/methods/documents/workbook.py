"""From a workbook to blocks of text: of each sheet the rows as they are seen, then the comments on its cells."""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections.abc import Iterator
from datetime import datetime, time
from decimal import Decimal
from typing import Any, Final
from xml.etree import ElementTree

from trunkline.methods.documents.blocks import FileText, TextBuilder
from trunkline.methods.documents.html import reading_as
from trunkline.methods.documents.office import open_archive, row_of, title_of

WIDEST_GAP: Final = 10
"""Empty cells side by side. Behind more of them a cell is named (``ZZ9: ...``) instead."""
LONGEST_NUMBER: Final = 24
"""Digits before a number is written with its exponent."""


def read_xlsx(data: bytes) -> FileText:
    """The text of a workbook: each sheet below its name, and of each row the cells, by the values they had when saved.

    Raises:
        Unreadable: damaged, or more than it seems.
    """
    import openpyxl

    built = TextBuilder()
    with reading_as("xlsx"), open_archive(data) as archive:
        title = title_of(archive)
        book: Any = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        unsaved = 0
        for sheet in book.worksheets:
            path = sheet._worksheet_path
            built.add("heading", sheet.title, 1)
            sheet.reset_dimensions()  # what is written there may be less than there is
            for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
                built.add("table_row", row_of(_without_gaps([_seen(value) for value in row], number)))
            for cell, text in _comments(archive, path):
                built.add("definition", f"{cell}: {text}")
            unsaved += _unsaved_formulas(archive, path)
    note = (
        f"formulas without a saved value are not read: {unsaved}; save it in a spreadsheet program" if unsaved else None
    )
    return built.build(title, note)


def _seen(value: Any) -> str:
    """A value as a reader sees it: dates without a time of 0:00, numbers in full."""
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    if isinstance(value, float):
        text = format(Decimal(repr(value)), "f").removesuffix(".0")
        return text if len(text) <= LONGEST_NUMBER else repr(value)
    return "" if value is None else str(value)


def _without_gaps(cells: list[str], row: int) -> list[str]:
    from openpyxl.utils import get_column_letter

    found: list[str] = []
    gap = 0
    for column, cell in enumerate(cells, 1):
        if not cell:
            gap += 1
            continue
        found += [f"{get_column_letter(column)}{row}: {cell}"] if gap > WIDEST_GAP else [*[""] * gap, cell]
        gap = 0
    return found


def _unsaved_formulas(archive: zipfile.ZipFile, sheet: str) -> int:
    """How many cells of a sheet have a formula of which nobody saved the value; that of a text may be empty."""
    count = 0
    with archive.open(sheet) as file:
        for _, element in ElementTree.iterparse(file):  # noqa: S314
            if not element.tag.endswith("}c"):
                continue
            has_formula = element.find("{*}f") is not None
            count += has_formula and not element.findtext("{*}v") and element.get("t") != "str"
            element.clear()
    return count


def _comments(archive: zipfile.ZipFile, sheet: str) -> Iterator[tuple[str, str]]:
    """The cells of a sheet that have comments, and these."""
    folder, name = posixpath.split(sheet)
    relations = f"{folder}/_rels/{name}.rels"
    if relations not in archive.namelist():
        return
    for relation in ElementTree.fromstring(archive.read(relations)):  # noqa: S314
        if relation.get("Type", "").endswith("/comments"):
            path = posixpath.normpath(posixpath.join("/", folder, relation.get("Target", ""))).lstrip("/")
            for comment in ElementTree.fromstring(archive.read(path)).iter():  # noqa: S314
                if comment.tag.endswith("}comment"):
                    yield comment.get("ref", ""), "".join(text.text or "" for text in comment.iterfind(".//{*}t"))
