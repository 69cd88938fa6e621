"""What the pushes of Phoenix channels are to the hub: JSON-RPC messages, their params and metadata."""

from __future__ import annotations

from typing import Final

import msgspec

from trunkline_protocol.codecs.phoenix_frames import PhoenixMessage

METADATA: Final = "$metadata"
"""The member of a push's payload that is the call's metadata and no param."""

Members = dict[str, msgspec.Raw]

members_decoder: Final = msgspec.json.Decoder(Members)
_token_decoder: Final = msgspec.json.Decoder(str | int)
_encoder: Final = msgspec.json.Encoder()


def encode_request(number: int, method: str, params: bytes, metadata: bytes = b"") -> bytes:
    """A JSON-RPC request; params and metadata are JSON."""
    return b'{"jsonrpc":"2.0","id":%d,"method":%b,"params":%b%b}' % (
        number,
        _encoder.encode(method),
        params,
        b',"metadata":%b' % metadata if metadata else b"",
    )


def encode_notification(method: str, params: bytes, metadata: bytes = b"") -> bytes:
    """A JSON-RPC notification; params and metadata are JSON."""
    return b'{"jsonrpc":"2.0","method":%b,"params":%b%b}' % (
        _encoder.encode(method),
        params,
        b',"metadata":%b' % metadata if metadata else b"",
    )


def members_of(payload: bytes) -> Members:
    """The members of an object; none of anything else, which is for whoever gets it to refuse."""
    try:
        return members_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}


def without_metadata(message: PhoenixMessage) -> tuple[bytes, bytes]:
    """The params of a call, and its metadata or nothing."""
    if message.is_binary:
        return b'{"data":%b}' % message.payload, b""
    if b'"$metadata"' not in message.payload:
        return message.payload, b""
    members = members_of(message.payload)
    metadata = members.pop(METADATA, None)
    return (message.payload, b"") if metadata is None else (_encoder.encode(members), bytes(metadata))


def token_of(metadata: bytes) -> bytes:
    """The progress token as JSON, or nothing where there is none, or one that the hub will refuse."""
    token = members_of(metadata).get("progress_token") if metadata else None
    return b"" if decode_token(token) is None else bytes(token)  # type: ignore[arg-type]  # no token without it


def decode_token(raw: msgspec.Raw | None) -> str | int | None:
    """A ref or token from its JSON; None where it is none."""
    try:
        return None if raw is None else _token_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
