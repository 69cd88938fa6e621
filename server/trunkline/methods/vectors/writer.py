"""Writing the log of a collection: one record at a time, on disk when :meth:`LogWriter.append` returns."""

from __future__ import annotations

import logging
from pathlib import Path

from trunkline.methods.vectors.files import Files
from trunkline.methods.vectors.log import encode_record
from trunkline.methods.vectors.recovery import segment_path

logger = logging.getLogger("trunkline.vectors")


class LogWriter:
    """Appends records, in segments of its owner's generation.

    Attributes:
        position: of the last record.
        bytes: of all segments that no snapshot has replaced.
        broken: what a failed write left could not be undone; only reading the folder again tells what is there.

    Args:
        segment_bytes: a segment that is longer is not written to any more.
    """

    def __init__(
        self, files: Files, folder: Path, generation: int, position: int, log_bytes: int, segment_bytes: int
    ) -> None:
        self.position = position
        self.bytes = log_bytes
        self.broken = False
        self._files = files
        self._folder = folder
        self._generation = generation
        self._segment_bytes = segment_bytes
        self._descriptor: int | None = None
        self._size = 0

    def append(self, payload: bytes) -> None:
        """Write a record and sync it. If this raises, the record is not there, or the log is ``broken``.

        Raises:
            OSError: the record cannot be written.
        """
        record = encode_record(self.position + 1, self._generation, payload)
        descriptor = self._begin() if self._descriptor is None else self._descriptor
        try:
            self._files.write(descriptor, record)
            self._files.sync(descriptor)
        except BaseException:
            self._roll_back(descriptor)
            raise
        self.position += 1
        self._size += len(record)
        self.bytes += len(record)
        if self._size >= self._segment_bytes:
            self.rotate()

    def _begin(self) -> int:
        """Begin a new segment. Returns its descriptor."""
        descriptor = self._files.open(segment_path(self._folder, self.position + 1, self._generation))
        try:
            self._files.sync_folder(self._folder)
        except BaseException:
            self._files.close(descriptor)
            raise
        self._descriptor, self._size = descriptor, 0
        return descriptor

    def _roll_back(self, descriptor: int) -> None:
        try:
            self._files.truncate(descriptor, self._size)
            self._files.sync(descriptor)
        except OSError:
            logger.warning("%s: a failed write could not be undone yet", self._folder, exc_info=True)
            self.broken = True

    def rotate(self) -> None:
        """End the segment: the next record goes to a new one."""
        if self._descriptor is not None:
            self._files.close(self._descriptor)
            self._descriptor = None
