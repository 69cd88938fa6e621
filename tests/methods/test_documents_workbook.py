"""Tests of workbooks: cells as a reader sees them."""

from __future__ import annotations

import io
from datetime import datetime

import pytest

pytest.importorskip("openpyxl")

import openpyxl
from openpyxl.comments import Comment

from trunkline.methods.documents.blocks import FileText
from trunkline.methods.documents.extract import extract


def read(cells: dict[str, object], comments: dict[str, str] | None = None) -> FileText:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "S"
    for place, value in cells.items():
        sheet[place] = value
    for place, text in (comments or {}).items():
        sheet[place].comment = Comment(text, "Ann")
    file = io.BytesIO()
    book.save(file)
    return extract(file.getvalue(), "a.xlsx")


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (90071992547409931, "90071992547409940"), (10**20, "100000000000000000000"), (1e-5, "0.00001"), (2.0, "2"),
        (1.5, "1.5"), (1e300, "1e+300"), (datetime(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, 4), "2026-01-02 03:04:00"),
    ],
)  # fmt: skip
def test_values_are_as_a_reader_sees_them(value: object, seen: str) -> None:
    # openpyxl saves 17 digits as 9.007199254740994e+16, as spreadsheet programs do: the file has no more.
    assert read({"A1": value}).text == f"S\n\n{seen}"


def test_formulas_that_nobody_computed_are_told() -> None:
    assert read({"A1": 1, "A2": "=A1+1"}).note == (
        "formulas without a saved value are not read: 1; save it in a spreadsheet program"
    )
    assert read({"A1": 1}).note is None


def test_comments_on_cells_are_read() -> None:
    assert read({"B2": "x"}, {"B2": "Who says so?"}).text.endswith("B2: Who says so?")


def test_a_cell_far_away_is_named() -> None:
    assert read({"A9": "near", "C9": "gap", "ZZ9": "far"}).text == "S\n\nnear |  | gap | ZZ9: far"
