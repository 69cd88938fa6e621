"""Reading a collection's folder as former versions wrote it: the newest good snapshot, and the log behind it.

::

    snapshot-<position>-<generation>    see snapshot.py
    log-<first>-<generation>            a segment of the log (records.py): its first position, and who wrote it
    log                                 the log of format 1, whose first position is 1

An owner wrote to segments of its own only, and the first one began behind everything that it had read. So a record
that an earlier owner still wrote, unacknowledged, is known by its place: the next owner's segment begins before it.
Nothing in the folder is changed here.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from trunkline.methods.vectors.changes import Change, Delete, Item
from trunkline.methods.vectors.former.records import RecordError, decode_changes, read_records, tail_damage
from trunkline.methods.vectors.former.snapshot import Damaged, read_snapshot

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NAME: Final = re.compile(r"(log|snapshot)-(\d{1,19})-(\d{1,19})")
OLD_LOG: Final = "log"

logger = logging.getLogger("trunkline.vectors")


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of the log: ``first`` is the position of its first record, ``generation`` its owner's."""

    path: Path
    first: int
    generation: int


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A snapshot, by what its name says."""

    path: Path
    position: int
    generation: int


@dataclass(frozen=True, slots=True)
class Contents:
    """The files in a collection's folder: segments by position, snapshots with the newest first."""

    segments: list[Segment]
    snapshots: list[SnapshotFile]

    @property
    def generation(self) -> int:
        """The greatest generation of any file."""
        generations = [each.generation for each in self.segments] + [each.generation for each in self.snapshots]
        return max(generations, default=0)


def list_contents(folder: Path) -> Contents:
    """The segments and snapshots in a folder, by their names.

    Raises:
        OSError: the folder cannot be read.
    """
    segments, snapshots = [], []
    for path in folder.iterdir():
        if path.name == OLD_LOG:
            segments.append(Segment(path, 1, 0))
        elif match := _NAME.fullmatch(path.name):
            number, generation = int(match[2]), int(match[3])
            if match[1] == "log":
                segments.append(Segment(path, number, generation))
            else:
                snapshots.append(SnapshotFile(path, number, generation))
    segments.sort(key=lambda each: (each.first, each.generation))
    snapshots.sort(key=lambda each: (each.generation, each.position), reverse=True)
    return Contents(segments, snapshots)


class Table:
    """Items and vectors by id, while they are read: every change replaces what was before it.

    Args:
        dimension: of the vectors.
    """

    def __init__(self, dimension: int, items: Sequence[Item] = (), vectors: NDArray[np.float32] | None = None) -> None:
        self._items = list(items)
        self._vectors = np.empty((0, dimension), dtype=np.float32) if vectors is None else vectors
        self._rows = {item.id: row for row, item in enumerate(self._items)}

    def apply(self, change: Change) -> None:
        """Apply a change."""
        if isinstance(change, Delete):
            for each in change.ids:
                self._delete(each)
            return
        rows = [self._row(item) for item in change.items]
        self._vectors[rows] = change.vectors

    def _row(self, item: Item) -> int:
        row = self._rows.setdefault(item.id, len(self._items))
        if row < len(self._items):
            self._items[row] = item
            return row
        if row == len(self._vectors):
            grown = np.empty((row + row // 2 + 64, self._vectors.shape[1]), dtype=np.float32)
            grown[:row] = self._vectors
            self._vectors = grown
        self._items.append(item)
        return row

    def _delete(self, id: str) -> None:
        row = self._rows.pop(id, None)
        if row is None:
            return
        last = self._items.pop()
        if row < len(self._items):  # the last one moves into the hole
            self._items[row] = last
            self._rows[last.id] = row
            self._vectors[row] = self._vectors[len(self._items)]

    def live(self) -> tuple[list[Item], NDArray[np.float32]]:
        """The items and their vectors, a row an item."""
        return self._items, self._vectors[: len(self._items)]


@dataclass(slots=True)
class Recovered:
    """The contents of a collection, read from its folder.

    Attributes:
        table: what is in the collection.
        position: of the last record that counts.
    """

    table: Table
    position: int = 0


def recover(contents: Contents, folder: Path, dimension: int) -> Recovered:
    """Read the contents of a collection from its folder.

    Raises:
        Damaged: something acknowledged cannot be read.
        OSError: a file cannot be read.
    """
    if not contents.segments and not contents.snapshots:
        raise Damaged(folder, 0, "has neither a log nor a snapshot")
    first_problem: Damaged | None = None
    usable = [each for each in contents.snapshots if not _is_fenced(each, contents.segments)]
    newest = max((each.position for each in usable), default=0)
    for file in (*usable, None):
        try:
            recovered = _Replay(contents.segments, _start(file, dimension), dimension).run()
            if recovered.position < newest:
                raise Damaged(folder, 0, f"the log ends at position {recovered.position}")
        except Damaged as error:
            first_problem = first_problem or error
            continue
        if first_problem is not None:
            logger.warning(
                "%s; nothing is lost: an older snapshot and the log behind it have everything", first_problem
            )
        return recovered
    assert first_problem is not None
    raise first_problem


def _is_fenced(file: SnapshotFile, segments: Iterable[Segment]) -> bool:
    """Whether an owner wrote it that was none any more: a later one went on from a position before it."""
    return any(each.generation > file.generation and each.first <= file.position for each in segments)


def _start(file: SnapshotFile | None, dimension: int) -> Recovered:
    if file is None:
        return Recovered(Table(dimension))
    snapshot = read_snapshot(file.path, dimension)
    if (snapshot.position, snapshot.generation) != (file.position, file.generation):
        raise Damaged(
            file.path, 0, f"says position {snapshot.position}, generation {snapshot.generation}: not its name"
        )
    return Recovered(Table(dimension, snapshot.items, snapshot.vectors), snapshot.position)


class _Replay:
    """Applies the segments of a log, in their order, to what is there already."""

    def __init__(self, segments: Sequence[Segment], state: Recovered, dimension: int) -> None:
        self._segments, self._state, self._dimension = segments, state, dimension

    def _fence(self, segment: Segment) -> float:
        """The position from which on a later owner has written: what an earlier one has there does not count."""
        return min((each.first for each in self._segments if each.generation > segment.generation), default=math.inf)

    def run(self) -> Recovered:
        for number, segment in enumerate(self._segments):
            following = self._segments[number + 1] if number + 1 < len(self._segments) else None
            if following is None or following.first > self._state.position + 1:
                self._read(segment, following)
        return self._state

    def _read(self, segment: Segment, following: Segment | None) -> None:
        if segment.first > self._state.position + 1:
            raise Damaged(
                segment.path,
                0,
                f"is position {segment.first}, and those from {self._state.position + 1} on are missing",
            )
        data = memoryview(segment.path.read_bytes())
        fence = self._fence(segment)
        end, position = 0, segment.first
        for record in read_records(data):
            if record.position not in (position, None) or record.generation != segment.generation:
                raise Damaged(
                    segment.path,
                    end,
                    f"is position {record.position} of generation {record.generation}, where {position} of "
                    f"{segment.generation} should be",
                )
            if position >= fence:
                logger.warning(
                    "%s: what is there from byte %d on was written, and not acknowledged, by an owner that had been "
                    "replaced: it is left out", segment.path, end,
                )  # fmt: skip
                return
            self._apply(segment, position, record.payload, end)
            end, position = record.end, position + 1
        if end < len(data):
            self._check_tail(segment, following, data, end)

    def _apply(self, segment: Segment, position: int, payload: memoryview, start: int) -> None:
        if position <= self._state.position:
            return
        try:
            for change in decode_changes(payload, self._dimension):
                self._state.table.apply(change)
        except RecordError as error:
            raise Damaged(segment.path, start, f"has {error}") from error
        self._state.position = position

    def _check_tail(self, segment: Segment, following: Segment | None, data: memoryview, end: int) -> None:
        """Check what is behind the last good record of a segment."""
        if following is not None and following.first <= self._state.position + 1:
            return  # whoever wrote on knew that there was nothing more
        problem = tail_damage(data, end)
        if problem is None and following is not None:
            problem = f"begins no whole record, and the log goes on at position {following.first}"
        if problem is not None:
            raise Damaged(segment.path, end, problem)
        logger.warning(
            "%s: the last record was not finished when its executor died, and was never acknowledged: its %d bytes "
            "from byte %d on are left out", segment.path, len(data) - end, end,
        )  # fmt: skip
