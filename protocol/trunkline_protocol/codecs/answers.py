"""Messages of callees that cannot be parsed: which request of the hub's they belong to, and what is wrong.

The hub's requests have ids of its own (``h:<n>``), so that even a text which is no JSON may end the call it belongs to.
"""

from __future__ import annotations

import re
from typing import Final

import orjson

_BESIDE: Final = rb'(?:"(?:jsonrpc|seq)"\s*:\s*(?:"2\.0"|\d+)\s*,\s*)*'
"""Members that may stand before those that tell."""

_ID: Final = rb'"(h:\d{1,19})"\s*'
_OUTCOME: Final = rb'"(?:result|error)"\s*:'

_id_first: Final = re.compile(rb"\s*\{\s*" + _BESIDE + rb'"id"\s*:\s*' + _ID + rb",\s*" + _BESIDE + _OUTCOME).match
_outcome_first: Final = re.compile(rb"\s*\{\s*" + _BESIDE + _OUTCOME).match
_id_last: Final = re.compile(
    rb',\s*"id"\s*:\s*' + _ID + rb'(?:,\s*"(?:jsonrpc|seq)"\s*:\s*(?:"2\.0"|\d+)\s*)*\}\s*$'
).search
_chunk: Final = re.compile(
    rb"\s*\{\s*"
    + _BESIDE
    + rb'"method"\s*:\s*"stream_chunk"\s*,\s*'
    + _BESIDE
    + rb'"params"\s*:\s*\{\s*"request_id"\s*:\s*'
    + _ID
).match
_hubs_id: Final = re.compile(r"h:\d{1,19}").fullmatch
_perhaps_too_large: Final = re.compile(rb"\d[eE]\+?\d{2}|\d{300}").search

_TAIL: Final = 256
"""Bytes at the end of a message that are looked at."""


def is_hubs_id(request_id: object) -> bool:
    """Whether an id may be that of a request of the hub's."""
    return isinstance(request_id, str) and _hubs_id(request_id) is not None


def about_request(data: bytes) -> str | None:
    """The id of the hub's request that a text which is no JSON was to answer, or to send a chunk for.

    It is found where serializers write it: before the result or the error, or last; in a chunk, as its first param. So
    it takes no time to look, however long the text is, and no part of a result can be taken for it.
    """
    found = _id_first(data) or _chunk(data)
    if found is None and _outcome_first(data) is not None:
        found = _id_last(data[-_TAIL:])
    return None if found is None else found[1].decode()


def unreadable(data: bytes) -> str | None:
    """Why a peer could not read a JSON text that was passed on unparsed, or None if it can.

    A number that no double holds is JSON by its grammar, but nothing that programs have.
    """
    if _perhaps_too_large(data) is None:
        return None
    try:
        orjson.loads(memoryview(data))  # of a msgspec.Raw, too, which is no bytes
    except orjson.JSONDecodeError as error:
        return str(error)
    return None
