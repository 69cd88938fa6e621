"""Large messages in pieces: JSON, zlib, 1 MiB chunks in base64.

``{type: "data_chunk", message_id?, chunk_index, data, is_final}``, with ``chunk_index`` from 0. Chunks of several
messages may be mixed if they carry a ``message_id``; without one there is one message at a time.
"""

from __future__ import annotations

import binascii
import zlib
from base64 import b64encode
from typing import Annotated, Final, Literal

import msgspec

from trunkline_protocol.codecs.requests import encode
from trunkline_protocol.errors import ErrorCode, RpcError

CHUNK_BYTES: Final = 1024 * 1024
"""Of compressed data in one chunk, and above which a message is sent in chunks."""

MAX_TRANSFERS: Final = 8
"""Messages that may be on their way in pieces at once."""

COMPRESSION: Final = 1
"""The quickest: the peer is on this machine, and the hub has others to serve."""

MessageId = int | str | None


class DataChunk(msgspec.Struct):
    """One chunk of a large message."""

    type: Literal["data_chunk"]
    chunk_index: Annotated[int, msgspec.Meta(ge=0, le=2**31)]
    data: str
    is_final: bool = False
    message_id: MessageId = None


class Transfers:
    """Messages that are arriving in pieces.

    Args:
        max_bytes: how large one may be when it is unpacked, and all of them before.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._arriving: dict[MessageId, tuple[int, bytearray]] = {}

    @property
    def kept(self) -> int:
        """Bytes of messages that are not complete yet."""
        return sum(len(packed) for _next, packed in self._arriving.values())

    def take(self, chunk: DataChunk) -> bytes | None:
        """Take a chunk. Returns the message that it completes.

        Raises:
            RpcError: the chunk is not the next one, or its message is too large or damaged. The message is dropped.
        """
        expected, packed = self._arriving.pop(chunk.message_id, (0, None))
        if chunk.chunk_index != expected:
            raise RpcError(ErrorCode.INVALID_REQUEST, f"chunk {chunk.chunk_index} came where {expected} was due")
        if packed is None:
            if len(self._arriving) >= MAX_TRANSFERS:
                raise _too_much(f"{MAX_TRANSFERS} messages are arriving in chunks already; finish one")
            packed = bytearray()
        try:
            packed += binascii.a2b_base64(chunk.data.encode(), strict_mode=True)
        except ValueError as error:
            raise RpcError(ErrorCode.PARSE_ERROR, f"chunk {expected} is no base64: {error}") from error
        if len(packed) + self.kept > self._max_bytes:
            raise _too_much(f"what arrives in chunks has more than {self._max_bytes} bytes")
        if chunk.is_final:
            return unpack(packed, self._max_bytes)
        self._arriving[chunk.message_id] = (expected + 1, packed)
        return None


def unpack(packed: bytes | bytearray, max_bytes: int) -> bytes:
    """Decompress a message of at most ``max_bytes``; never more than that is unpacked.

    Raises:
        RpcError: the message is larger, or damaged.
    """
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(packed, max_bytes + 1)
    except zlib.error as error:
        raise RpcError(ErrorCode.PARSE_ERROR, f"the chunks are no zlib stream: {error}") from error
    if len(data) > max_bytes:
        raise _too_much(f"the message unpacks to more than {max_bytes} bytes")
    if not unpacking.eof or unpacking.unused_data:
        raise RpcError(ErrorCode.PARSE_ERROR, "the chunks are no whole zlib stream")
    return data


def in_chunks(message: bytes, message_id: MessageId) -> list[bytes]:
    """A message as chunks, encoded."""
    packed = zlib.compress(message, COMPRESSION)
    last = (len(packed) - 1) // CHUNK_BYTES
    return [
        encode(
            {
                "type": "data_chunk",
                "message_id": message_id,
                "chunk_index": index,
                "data": b64encode(packed[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]).decode(),
                "is_final": index == last,
            }
        )
        for index in range(last + 1)
    ]


def _too_much(words: str) -> RpcError:
    return RpcError(ErrorCode.INVALID_REQUEST, words, data={"limit": "TRUNKLINE_MAX_MESSAGE_BYTES"})
