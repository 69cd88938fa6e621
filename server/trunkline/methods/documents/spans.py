"""Rows of tables with cells that go over several rows or columns. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

LONGEST_REPEATED: Final = 200
"""Characters of a cell that is repeated in each row that it spans: more would be most of what these say."""
MOST_COLUMNS: Final = 100
MOST_ROWS: Final = 65_534
"""That a cell may span; the latter is HTML's own limit."""


class Spans:
    """The cells of one table that go on in the rows below."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[str, int]] = {}

    def row(self, cells: Sequence[str], sizes: Sequence[tuple[int, int]]) -> list[str]:
        """The cells of the next row by columns: those from above are repeated, other columns of a wide one are empty.

        Args:
            sizes: how many rows and columns each cell has; 1 and 1 where there are fewer sizes than cells.
        """
        own = iter([(cell, sizes[at] if at < len(sizes) else (1, 1)) for at, cell in enumerate(cells)])
        above, self._open = self._open, {}
        last = max(above, default=-1)
        row: list[str] = []
        while True:
            if (column := len(row)) in above:
                text, left = above[column]
                self._add(row, text, left)
            elif (cell := next(own, None)) is not None:
                text, (rows, columns) = cell
                self._add(row, text, rows)
                for _ in range(1, min(columns, MOST_COLUMNS)):
                    self._add(row, "", rows)
            elif column > last:
                return row
            else:
                row.append("")

    def _add(self, row: list[str], text: str, rows: int) -> None:
        if rows > 1:
            self._open[len(row)] = (text if len(text) <= LONGEST_REPEATED else "", min(rows, MOST_ROWS) - 1)
        row.append(text)
