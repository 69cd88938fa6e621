"""Request ids: what one names, which texts are one, and those that the hub makes where no caller has given any."""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Final

import msgspec

MAX_CHARS: Final = 256
PATTERN: Final = r"^[ -~]*$(?!\n)"
"""Printable ASCII: an id goes into headers, logs and terminals, and means the same to all of them."""

RequestId = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_CHARS, pattern=PATTERN)]

_PRINTABLE: Final = re.compile(PATTERN)


class _Given(msgspec.Struct):
    request_id: RequestId | None = None


_decoder: Final = msgspec.json.Decoder(_Given)


def is_request_id(text: str) -> bool:
    """Whether a text is a request id: 1 to 256 printable ASCII characters."""
    return 0 < len(text) <= MAX_CHARS and _PRINTABLE.match(text) is not None


def given_request_id(metadata: bytes) -> str | None:
    """The request id in a call's metadata (JSON, or empty); None where there is none, or none that is valid."""
    if metadata.find(b"request_id") < 0 and metadata.find(b"\\") < 0:
        return None
    try:
        return _decoder.decode(metadata).request_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # the caller is told when the call is routed
        return None


def new_request_id() -> str:
    """A request id that no other call has, in all likelihood. It is random: a number would tell how many others had."""
    return secrets.token_hex(10)


def request_id_for(given: str | None) -> str:
    """The id that a request came with; a new one where it came without, or with what is none."""
    return given if given is not None and is_request_id(given) else new_request_id()
