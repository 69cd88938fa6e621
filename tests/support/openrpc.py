"""The OpenRPC document of some methods, as readers of the JSON have it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from trunkline.control import rpc
from trunkline_protocol.catalogue import MethodInfo, TopicInfo


def discover(infos: Iterable[MethodInfo], topics: Iterable[TopicInfo] = ()) -> dict[str, Any]:
    """The document that ``rpc.discover`` answers."""
    return msgspec.json.decode(msgspec.json.encode(rpc.discover(infos, topics)), type=dict[str, Any])
