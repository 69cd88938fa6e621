"""Methods that take files, for what is sent as forms."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from trunkline import Upload, method


@method("files.told")
def told(audio: bytes, language: str = "en", speed: float = 1.0, tags: list[str] | None = None) -> dict[str, Any]:
    """What was sent."""
    digest = hashlib.sha256(audio).hexdigest()
    return {"size": len(audio), "sha256": digest, "language": language, "speed": speed, "tags": tags}


@method("files.same")
def same(data: bytes) -> bytes:
    """The same bytes."""
    return data


@method("files.named")
def named(file: Upload) -> dict[str, Any]:
    """What is known of a file."""
    return {"size": len(file.data), "name": file.name, "media_type": file.media_type}


@method("files.sizes")
def sizes(
    files: list[Upload] | None = None, parts: list[bytes] | None = None, options: dict[str, int] | None = None
) -> Any:
    """The names of some files, the sizes of others."""
    return [[one.name for one in files or []], [len(part) for part in parts or []], options]


@method("files.either")
def either(value: bytes | str | None = None, anything: Any = None, number: int | None = None) -> str:
    """What Python sees of the values."""
    return repr((value, anything, number))


@method("files.two")
def two(left: bytes, right: bytes) -> int:
    """How much longer left is than right."""
    return len(left) - len(right)


@method("files.counted")
def counted(marker: str, data: bytes = b"") -> int:
    """Writes a marker, which shows that it ran."""
    return Path(marker).write_bytes(data)
