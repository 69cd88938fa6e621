"""The number of values in a JSON text or a MessagePack message, counted without unpacking it.

Where the hub has to read into what a peer sent, each value becomes an object: fifteen megabytes of empty arrays are
1.3 GB and eleven seconds. So what is large is counted before. An array or an object counts :data:`CONTAINER` numbers.
"""

from __future__ import annotations

import re
from typing import Final

from trunkline_protocol.errors import ErrorCode, RpcError

SMALL: Final = 128 * 1024
"""Bytes up to which nothing is counted: each value takes one at least."""

MAX_VALUES: Final = 2 * 2**20
MAX_MEMBERS: Final = MAX_VALUES // 4
CONTAINER: Final = 16
LIMIT: Final = "message_values"

_STRING: Final = re.compile(rb'"[^"]*"')

_SHORT_TEXT: Final = b"|".join(b"%b.{%d}" % (re.escape(bytes([0xA0 + size])), size) for size in range(32))
_SCALAR: Final = (
    rb"[\x00-\x7f\xc0-\xc3\xe0-\xff]|\xcb.{8}|\xca.{4}|[\xcc\xd0].|[\xcd\xd1]..|[\xce\xd2].{4}|[\xcf\xd3].{8}|"
    + _SHORT_TEXT
)
_VALUE: Final = rb"([\x80-\x9f]|[\xdc\xde]..|[\xdd\xdf].{4})|" + _SCALAR
_RUN: Final = 4096
_SCALARS: Final = re.compile(rb"(?:%b){%d}" % (_SCALAR, _RUN), re.DOTALL)
_VALUES: Final = re.compile(rb"(?:(?!\xcb.{8}\xcb)(?:%b)){1,%d}" % (_VALUE, _RUN), re.DOTALL)
_FLOATS: Final = re.compile(rb"(?:\xcb.{8}){2,65535}", re.DOTALL)
_EACH: Final = re.compile(_VALUE, re.DOTALL)
_LONG: Final = 8
"""What a long text or binary data counts, and an extension: it is an object larger than a number."""

_LENGTH_BYTES: Final = {0xD9: 1, 0xDA: 2, 0xDB: 4, 0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4}
_FIXED_EXTENSIONS: Final = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_EXTENSIONS: Final = frozenset({0xC7, 0xC8, 0xC9})


def json_is_too_much(text: bytes) -> bool:
    """Whether some JSON, valid or not, holds more than may be unpacked."""
    if len(text) <= SMALL or _json_values(text) <= MAX_VALUES:
        return False
    if text.count(b'"') // 2 > MAX_VALUES:
        return True
    # Prose has commas, too: look at what is outside of strings.
    return _json_values(_STRING.sub(b"", text.replace(rb"\\", b"").replace(rb"\"", b""))) > MAX_VALUES


def has_too_many_members(text: bytes) -> bool:
    """Whether objects in some JSON have more members than may be told apart, whatever each of them holds."""
    if len(text) <= SMALL or text.count(b":") <= MAX_MEMBERS:
        return False
    return _STRING.sub(b"", text.replace(rb"\\", b"").replace(rb"\"", b"")).count(b":") > MAX_MEMBERS


def _json_values(text: bytes) -> int:
    return CONTAINER * (text.count(b"[") + text.count(b"{")) + text.count(b",") + text.count(b":")


def msgpack_is_too_much(message: bytes) -> bool:
    """Whether a MessagePack message, valid or not, holds more than may be unpacked. Looks no further than it has to."""
    if len(message) <= SMALL:
        return False
    at, values, end, plain = 0, 0, len(message), False
    while at < end and values <= MAX_VALUES:
        size = _LENGTH_BYTES.get(message[at])
        if size is not None:
            at += 1 + size + (message[at] in _EXTENSIONS) + int.from_bytes(message[at + 1 : at + 1 + size], "big")
            values += _LONG
        elif (run := _FLOATS.match(message, at)) is not None:
            values += (run.end() - at) // 9
            at = run.end()
        elif plain and (run := _SCALARS.match(message, at)) is not None:
            values += _RUN
            at = run.end()
        elif (run := _VALUES.match(message, at)) is not None:
            each = _EACH.findall(message, at, run.end())
            containers = len(each) - each.count(b"")
            values += len(each) + (CONTAINER - 1) * containers
            plain = not containers and len(each) == _RUN
            at = run.end()
        elif message[at] in _FIXED_EXTENSIONS:
            at += 2 + _FIXED_EXTENSIONS[message[at]]
            values += _LONG
        else:
            break  # cut off, or no MessagePack
    return values > MAX_VALUES


def too_much(what: str, code: ErrorCode = ErrorCode.INVALID_PARAMS) -> RpcError:
    """The error for what holds too many values. It is not retryable: the same will be as much again.

    Args:
        what: what holds too many values, for example ``publish: data``.
    """
    return RpcError(
        code,
        f"{what} holds too much to be unpacked: {MAX_VALUES} numbers, or {MAX_VALUES // CONTAINER} arrays and objects, "
        "are allowed. Send it in parts, or large arrays of numbers as binary data",
        data={"limit": LIMIT},
    )
