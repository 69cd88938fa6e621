"""Reads the routing key of a call from its params, for the methods that declare one. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from trunkline_protocol.catalogue import MethodInfo
from trunkline_protocol.errors import ErrorCode, RpcError


class RoutingKeys:
    """One small decoder per method: it reads the key and skips the rest of the params."""

    def __init__(self) -> None:
        self._decoders: dict[str, msgspec.json.Decoder[Any]] = {}

    def value(self, info: MethodInfo, params: bytes) -> str:
        """The value of the routing key.

        Args:
            params: JSON, an object or an array.

        Raises:
            RpcError: -32602, where it is missing or no string.
        """
        key = info.routing_key
        assert key is not None
        try:
            if params.lstrip()[:1] == b"[":
                position = next(i for i, parameter in enumerate(info.parameters) if parameter.name == key)
                value = msgspec.json.decode(msgspec.json.decode(params, type=list[msgspec.Raw])[position], type=str)
            else:
                value = getattr(self._decoder(info.name, key).decode(params), key)
        except (msgspec.DecodeError, IndexError, StopIteration) as error:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"{info.name}: {key} must be given as a string") from error
        assert isinstance(value, str)
        return value

    def _decoder(self, method: str, key: str) -> msgspec.json.Decoder[Any]:
        decoder = self._decoders.get(method)
        if decoder is None:
            decoder = msgspec.json.Decoder(msgspec.defstruct("Key", [(key, str)]))
            self._decoders[method] = decoder
        return decoder
