"""Reads and splits documents in a process of its own, whose memory and time nobody who sends documents can raise.

Run by :mod:`trunkline.methods.documents.parsers`: requests on stdin, answers on stdout, each behind
its length. Requests are of the executor that started it. Answers are JSON: whoever gained this process by a file gets
no further by what it says.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import pickle
import resource
import signal
import struct
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any, Final

import orjson

from trunkline.methods.documents.blocks import Unreadable
from trunkline.methods.documents.extract import extract, from_text
from trunkline.methods.documents.split import Splitter
from trunkline.methods.documents.tokens import load_tokens

LENGTH: Final = struct.Struct("<Q")
FILE_BYTES: Final = 64 * 2**20
"""What it may write into any one file: it has none to write."""
GRACE: Final = 10
"""Seconds behind its time when this process ends itself, should its executor be gone."""
PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Request:
    """A document that is to be read and split.

    Attributes:
        name: of the file, None for a text that a caller gave.
        title: the caller's.
        tokens: of a passage; ``overlap`` of them are in the next one, too.
    """

    data: bytes
    name: str | None
    title: str | None
    model: str
    tokens: int
    overlap: int


def answer(request: Request) -> dict[str, Any]:
    """The passages of a document, or why it has none, as JSON has them."""
    try:
        document = from_text(request.data.decode()) if request.name is None else extract(request.data, request.name)
        document = document.titled(request.title or document.title)
        passages = _splitter(request.model, request.tokens, request.overlap).split(document)
    except Unreadable as error:
        return {"error": str(error)}
    pages = [document.page_at(each.start) for each in passages]
    return {"title": document.title, "note": document.note, "passages": passages, "pages": pages}


@lru_cache(maxsize=4)
def _splitter(model: str, tokens: int, overlap: int) -> Splitter:
    return Splitter(load_tokens(model), tokens, overlap)


def main() -> None:
    """Answer requests until there are no more."""
    requests, answers = _own_streams()
    _restrict(int(sys.argv[1]) * 2**20)
    answers.write(LENGTH.pack(0))  # it has started
    answers.flush()
    while len(head := requests.read(LENGTH.size)) == LENGTH.size:
        request: Request = pickle.loads(requests.read(LENGTH.unpack(head)[0]))  # noqa: S301
        _end_after(float(sys.argv[2]))
        try:
            found = orjson.dumps(answer(request))
        except MemoryError:
            found = orjson.dumps({"memory": True})
        faulthandler.cancel_dump_traceback_later()
        answers.write(LENGTH.pack(len(found)) + found)
        answers.flush()


def _own_streams() -> tuple[IO[bytes], IO[bytes]]:
    """Stdin and stdout, of which nothing else in this process can read or write any more."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    return requests, answers


def _restrict(memory: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for limit, value in (
        (resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, FILE_BYTES), (resource.RLIMIT_CORE, 0),
    ):  # fmt: skip
        hard = resource.getrlimit(limit)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (most, most))


def _end_after(seconds: float) -> None:
    """End this process after some seconds, in whatever code it is then: by the kernel, and by a thread of C."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    limit = int(used.ru_utime + used.ru_stime + seconds) + GRACE
    resource.setrlimit(resource.RLIMIT_CPU, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    faulthandler.dump_traceback_later(seconds + GRACE, exit=True)
