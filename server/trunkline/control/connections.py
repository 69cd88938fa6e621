"""The book of open connections, for reports: read from counts that exist anyway, so that it costs nothing per call."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from trunkline.hub.connection import Connection, Traffic
from trunkline_protocol.reports import ConnectionReport


class _Account:
    """The byte counts of a connection's last report, and its dropped events when it was opened."""

    __slots__ = ("at", "dropped", "received", "sent")

    def __init__(self, dropped: int) -> None:
        self.dropped = dropped
        self.at = 0.0
        self.received: int | None = None
        self.sent: int | None = None


class ConnectionBook:
    """The open connections; not those of single HTTP requests. One whose session is resumed is opened again."""

    def __init__(self) -> None:
        self._open: dict[Connection, _Account] = {}
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, connection: Connection) -> None:
        """Add a connection."""
        self._open[connection] = _Account(connection.outbox.dropped_events)

    def closed(self, connection: Connection) -> None:
        """Remove a connection."""
        account = self._open.pop(connection, None)
        if account is not None:
            self._dropped += connection.outbox.dropped_events - account.dropped

    def connections(self) -> list[Connection]:
        """The open connections."""
        return list(self._open)

    @property
    def dropped_events(self) -> int:
        """Events that were dropped for connections that read too slowly, since the hub started."""
        now = sum(connection.outbox.dropped_events - account.dropped for connection, account in self._open.items())
        return self._dropped + now

    @property
    def buffered_bytes(self) -> int:
        """Bytes that wait to be written, to all connections."""
        return sum(connection.outbox.buffered_bytes for connection in self._open)

    @property
    def streams(self) -> int:
        """Streams that have begun and not ended, of all connections."""
        return sum(len(connection.streams) for connection in self._open)

    def table(self, now: float, limit: int) -> list[ConnectionReport]:
        """Rows of at most ``limit`` connections: the most buffered bytes first, then the most calls, then the oldest.

        Args:
            now: on the monotonic clock, in seconds. Rates are since the last table with the connection.
        """

        def rank(connection: Connection) -> tuple[int, int, int]:
            return -connection.outbox.buffered_bytes, -len(connection.calls), connection.number

        chosen = sorted(self._open, key=rank)[:limit]
        return [self._row(connection, now) for connection in chosen]

    def _row(self, connection: Connection, now: float) -> ConnectionReport:
        account, outbox = self._open[connection], connection.outbox
        traffic = connection.door.traffic()
        row = ConnectionReport(
            connection=connection.number,
            peer=connection.peer,
            principal=connection.principal.name,
            tenant=connection.principal.tenant,
            transport=traffic.transport,
            client=traffic.client,
            duration_ms=round(1000 * (now - connection.opened_at)),
            calls=len(connection.calls) + connection.notifications,
            streams=len(connection.streams),
            subscriptions=len(connection.subscriptions),
            session=connection.session is not None,
            received_bytes=traffic.received,
            sent_bytes=traffic.sent,
            in_bytes_per_second=_rate(account.received, traffic.received, now - account.at),
            out_bytes_per_second=_rate(account.sent, traffic.sent, now - account.at),
            buffered_bytes=outbox.buffered_bytes,
            lag_ms=_lag_ms(connection),
            dropped_events=outbox.dropped_events,
        )
        account.at, account.received, account.sent = now, traffic.received, traffic.sent
        return row


def transports(doors: Iterable[Traffic]) -> Counter[str]:
    """The number of sockets of each kind of transport."""
    return Counter(traffic.transport for traffic in doors)


def _rate(before: int | None, now: int | None, seconds: float) -> float | None:
    return None if before is None or now is None or seconds <= 0 else round((now - before) / seconds, 1)


def _lag_ms(connection: Connection) -> int:
    event = connection.outbox.oldest_event
    return 0 if event is None else max(0, int(time.time() * 1000) - event.published_at)
