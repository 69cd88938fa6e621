"""Names of Phoenix channels that are topics of the hub by configuration: ``room:42`` reads and writes ``room.42``.

The topic is the name with a dot for each ``:``. What no token of a topic may have, and ``%``, is percent-encoded, so
that every name has a topic of its own, and every such topic one name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

TOPIC: Final = "topic:"
RPC: Final = "rpc:"
OWN: Final = (TOPIC, RPC)
"""How the names begin that mean the same on every hub."""

CONTROL: Final = "phoenix"
"""The topic of heartbeats, and of what concerns the socket and no channel."""

_NO_TOKEN: Final = re.compile(r"[\s.*>%\x00-\x1f\x7f\ud800-\udfff]")


class ChannelNames:
    """Which channels are topics of the hub, beside ``topic:<name>``.

    Args:
        patterns: names, or beginnings of names followed by ``*``, as Phoenix's own ``channel "room:*"``.
    """

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._exact = frozenset(pattern for pattern in patterns if not pattern.endswith("*"))
        self._beginnings = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))

    def topic_of(self, channel: str) -> str | None:
        """The topic that a channel reads and writes; None where its name is not configured.

        The hub refuses a topic that is none: of a name with an empty part, such as ``room:``.
        """
        if channel.startswith(OWN) or channel == CONTROL:
            return None
        if channel not in self._exact and not channel.startswith(self._beginnings):
            return None
        return ".".join(_NO_TOKEN.sub(_encoded, part) for part in channel.split(":"))


def _encoded(found: re.Match[str]) -> str:
    return quote(found[0], safe="", errors="surrogatepass").replace(".", "%2E")


def require_channels(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Check names of channels and beginnings with ``*``; raises ValueError for what no channel could be."""
    for pattern in patterns:
        name = pattern.removesuffix("*")
        if "*" in name or not pattern or name != name.strip():
            raise ValueError(f"{pattern!r:.100} is no name of a channel, nor a beginning and *, such as room:*")
        if name.startswith(OWN) or pattern == CONTROL:
            raise ValueError(f"{pattern!r:.100} is taken: topic:, rpc: and phoenix mean the same on every hub")
    return patterns
