"""The numbers of frames in a session (SPEC.md, Sessions), found in whatever a peer sends. Pure."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from trunkline_protocol.depth import clipped
from trunkline_protocol.messages import UNREADABLE, RawOrUnset
from trunkline_protocol.session import ProtocolViolation, batch_seq
from trunkline_protocol.values import SMALL

_WHITESPACE: Final = b" \t\r\n"
_SEQ_IN_FRONT: Final = re.compile(rb'[\s\[]*\{\s*"seq"\s*:\s*([1-9][0-9]{0,15})\s*[,}]')


class _Numbered(msgspec.Struct):
    seq: int | msgspec.UnsetType = msgspec.UNSET


class _Odd(msgspec.Struct):
    """A message whose number is of any type."""

    seq: RawOrUnset = msgspec.UNSET


_numbered_decoder: Final = msgspec.json.Decoder(_Numbered)
_odd_decoder: Final = msgspec.json.Decoder(_Odd)
_odd_list_decoder: Final = msgspec.json.Decoder(list[_Odd])

_FIRST: Final = tuple(f"m{position}" for position in range(1000))
_first_odd_decoder: Final = msgspec.json.Decoder(
    msgspec.defstruct(
        "_FirstOdd", [(name, _Odd | msgspec.UnsetType, msgspec.UNSET) for name in _FIRST], array_like=True
    )
)
"""So that an array of millions does not become as many objects."""


def seq_of(data: bytes) -> int | None:
    """The number of a frame (SPEC.md, Sessions); None where it has none.

    What is no JSON, or nested too deeply, is counted, too, where its number can be found: it is in front, or what is
    too deep can be left out.

    Raises:
        ProtocolViolation: it is no integer, or the members of a batch have different ones.
    """
    try:
        seq = _numbered_decoder.decode(data).seq
    except RecursionError:
        return _seq_in_front(data) or _odd_seq(clipped(data) or b"")
    except UNREADABLE:
        return _odd_seq(data) or _seq_in_front(data)
    return None if seq is msgspec.UNSET else seq


def _seq_in_front(data: bytes) -> int | None:
    found = _SEQ_IN_FRONT.match(data)
    return None if found is None else int(found[1])


def _odd_seq(data: bytes) -> int | None:
    """The number of a batch, or of what is no message."""
    try:
        if data.lstrip(_WHITESPACE)[:1] == b"[":
            return batch_seq(_number(member.seq) for member in _odd_members(data))
        return _number(_odd_decoder.decode(data).seq)
    except UNREADABLE:
        return None


def _odd_members(data: bytes) -> list[_Odd]:
    """The members of a batch; of more than can be allowed to be one, the first."""
    if len(data) <= SMALL:
        return _odd_list_decoder.decode(data)
    members = _first_odd_decoder.decode(data)
    return [member for name in _FIRST if (member := getattr(members, name)) is not msgspec.UNSET]


def _number(seq: RawOrUnset) -> int | None:
    if isinstance(seq, msgspec.UnsetType):
        return None
    try:
        return msgspec.json.decode(seq, type=int)
    except UNREADABLE as error:
        raise ProtocolViolation("seq is no integer") from error
