"""Forms as bytes, byte by byte: also those that no library would send."""

from __future__ import annotations

from typing import Final

BOUNDARY: Final = "b0undary"
FORM: Final = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(name: str, data: bytes = b"", *headers: str, filename: str | None = None) -> bytes:
    """One field, with further headers; no boundary before it."""
    named = "" if filename is None else f'; filename="{filename}"'
    lines = [f'Content-Disposition: form-data; name="{name}"{named}', *headers, "", ""]
    return "\r\n".join(lines).encode() + data


def form(*parts: bytes, end: bytes = b"--", boundary: str = BOUNDARY) -> bytes:
    """A form of parts; ``end`` follows the last boundary."""
    line = b"--" + boundary.encode()
    return b"".join(line + b"\r\n" + each + b"\r\n" for each in parts) + line + end + b"\r\n"
