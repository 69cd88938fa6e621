"""Methods at the task paths of the JavaScript client's tests."""

from __future__ import annotations

import asyncio
from pathlib import Path

from typing_extensions import TypedDict

from trunkline import method


class Analysed(TypedDict):
    """How often the method has run, and for which text."""

    runs: int
    text: str


@method("speech.analyze")
def analyze(text: str, marker: str) -> Analysed:
    """Counts its runs in a file."""
    with open(marker, "a") as file:
        file.write("x")
    return {"runs": Path(marker).stat().st_size, "text": text}


@method("bytes.reverse")
def reverse(data: bytes) -> bytes:
    """Only bytes can be reversed so: text and their JSON form are refused."""
    return data[::-1]


@method("models.infer", http="ml/inference", idempotent=True)
async def infer(seconds: float) -> float:
    """Takes its time."""
    await asyncio.sleep(seconds)  # the time is the fault
    return seconds
