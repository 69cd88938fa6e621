"""A process that writes to a collection until it is killed, and says which of its changes were acknowledged.

Each line of its input, "folder first", starts a writer: a fork, so that killing it many times is quick. Its output
is "pid n", then "ack n" behind each change, and "dead" when the writer is.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from tests.support.stored_collections import upsert_of
from trunkline.methods.vectors.changes import Change, Delete
from trunkline.methods.vectors.store import CollectionStore

DIMENSION = 16
IDS = 200


def change(number: int) -> list[Change]:
    """What a number stands for: in this process, and in the test's."""
    chance = random.Random(number)
    changes: list[Change] = []
    for part in range(chance.choice([1, 1, 3])):
        ids = [str(each) for each in chance.sample(range(IDS), chance.randint(1, 8))]
        texts = {each: f"text {number} {part} of {each}" for each in ids}
        changes.append(Delete(ids) if chance.random() < 0.3 else upsert_of(texts, DIMENSION))
    return changes


def write(folder: Path, first: int) -> None:
    """Changes from ``first`` on, for ever."""
    collection = CollectionStore(folder).open("c")
    assert collection is not None
    number = first
    while True:
        if number % 97 == 0:
            collection.rebuild()
        if number % 31 == 0:
            collection.close()
            collection = CollectionStore(folder).open("c")
            assert collection is not None
        if number % 11 == 0:
            collection.write_index()
        collection.commit(change(number))
        say(f"ack {number}")
        number += 1


def say(text: str) -> None:
    """In one write, which pipes do not tear."""
    os.write(1, f"{text}\n".encode())


def main() -> None:
    """Fork writers, one at a time."""
    for line in sys.stdin:
        folder, first = line.rsplit(" ", 1)
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.read(told, 1)  # its pid is the first that is said
                write(Path(folder), int(first))
            finally:
                os._exit(1)
        say(f"pid {pid}")
        os.write(tell, b"!")
        os.waitpid(pid, 0)
        os.close(told)
        os.close(tell)
        say("dead")


if __name__ == "__main__":
    main()
