"""The state of ``trunkline top``: a hub's latest figures, and how current they are. Pure: the clock is an argument."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

STALE_SECONDS: Final = 3.0
"""Seconds without ``system.metrics``, which comes once a second, after which its figures count as stale."""

METRICS: Final = "system.metrics"
EXECUTORS: Final = "system.executors"
HEALTH: Final = "health.detailed"
METHODS: Final = "metrics.get"
CALLS: Final = "system.calls"
TOPICS: Final = "system.topics"

WORKING: Final = ("ready", "busy")
LIMIT: Final = 50
"""How many methods, calls and topics a snapshot lists."""

LinkState = Literal["connected", "reconnecting", "closed"]


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """The state of the connection, since when (monotonic, seconds), and the reason where it is not ``connected``."""

    state: LinkState
    since: float
    why: str = ""
    attempt: int = 0


@dataclass(slots=True)
class Board:
    """The latest figures of each source, each replaced as a whole.

    Attributes:
        url: of the hub.
        link: the connection.
        metrics: data of the last ``system.metrics``.
        metrics_at: when those arrived, monotonic, in seconds.
        health: the last answer of ``health.detailed``.
        refused: sources that the hub refuses, with its error messages.
    """

    url: str
    link: ConnectionStatus
    metrics: dict[str, Any] | None = None
    metrics_at: float = 0.0
    health: dict[str, Any] | None = None
    refused: dict[str, str] = field(default_factory=dict)
    _executors: list[dict[str, Any]] = field(default_factory=list)
    _methods: list[dict[str, Any]] = field(default_factory=list)
    _calls: list[dict[str, Any]] = field(default_factory=list)
    _calls_more: int = 0
    _topics: list[dict[str, Any]] = field(default_factory=list)
    _topics_at: float = 0.0

    # --- input ---

    def hear(self, source: str, data: dict[str, Any], now: float) -> None:
        """Take the data of an event of topic ``source``, or the result of the method ``source``."""
        self.refused.pop(source, None)
        match source:
            case "system.metrics":
                self.metrics, self.metrics_at = data, now
            case "system.executors":
                self._executors = data["executors"]
            case "health.detailed":
                self.health = data
            case "metrics.get":
                self._methods = busiest(data)
            case "system.calls":
                self._calls, self._calls_more = data["calls"], data["more"]
            case "system.topics":
                self._topics = rated(data["topics"], self._topics, now - self._topics_at)
                self._topics_at = now

    def refuse(self, source: str, words: str) -> None:
        """Note that the hub refuses a source, and forget its figures, which are out of date."""
        self.refused[source] = words
        match source:
            case "system.metrics":
                self.metrics = None
            case "system.calls":
                self._calls, self._calls_more = [], 0
            case "system.topics":
                self._topics = []

    # --- output ---

    def age(self, now: float) -> float | None:
        """The age of the head's figures, in seconds; None where there are none."""
        return None if self.metrics is None else max(0.0, now - self.metrics_at)

    def is_live(self, now: float) -> bool:
        """Whether the figures are current."""
        age = self.age(now)
        return self.link.state == "connected" and age is not None and age <= STALE_SECONDS

    def freshness(self, now: float) -> str:
        """How current the figures are, as text."""
        link, age = self.link, self.age(now)
        old = "" if age is None else f"; figures are {age:.0f} s old"
        if link.state == "closed":
            return f"disconnected, not reconnecting: {link.why}{old}"
        if link.state == "reconnecting":
            return f"reconnecting for {now - link.since:.0f} s (attempt {link.attempt}): {link.why}{old}"
        if METRICS in self.refused:
            return f"no live figures: {self.refused[METRICS]}"
        if age is None:
            return "connected; the first figures are due within two seconds"
        return "live" if age <= STALE_SECONDS else f"stale: connected, but no figures for {age:.0f} s"

    @property
    def executors(self) -> list[dict[str, Any]]:
        """The executors: state and memory by ``health.detailed``, CPU and running calls by ``system.executors``."""
        told = {row["worker_id"]: row for row in self._executors}
        if self.health is None:
            return list(told.values())
        blank: dict[str, Any] = {"cpu_percent": None, "running": []}
        return [
            blank | {key: told[row["worker_id"]][key] for key in blank} | row
            if row["worker_id"] in told and told[row["worker_id"]]["pid"] == row["pid"]
            else blank | row
            for row in self.health["executors"]
        ]

    @property
    def methods(self) -> list[dict[str, Any]]:
        """The methods of the last minute, the busiest first."""
        return self._methods

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The calls in flight, the oldest first."""
        return self._calls

    @property
    def calls_more(self) -> int:
        """How many more calls are in flight than :attr:`calls` lists."""
        return self._calls_more

    @property
    def topics(self) -> list[dict[str, Any]]:
        """The recently active topics, those with the highest rate first; a rate is None at first."""
        return sorted(self._topics, key=lambda row: -(row["per_second"] or 0.0))

    def concern(self, method: str) -> dict[str, Any] | None:
        """The entry of ``health.detailed`` for a method that is not served, or fails; None for others."""
        concerned: list[dict[str, Any]] = (self.health or {}).get("methods", [])
        return next((row for row in concerned if row["method"] == method), None)

    def health_in_words(self) -> tuple[str, str]:
        """The hub's status in one word, and its causes with the number of working executors."""
        if self.health is None:
            return "unknown", self.refused.get(HEALTH, "")
        rows = self.health["executors"]
        working = sum(row["status"] in WORKING for row in rows)
        number = f"{working} of {len(rows)} executor{'' if len(rows) == 1 else 's'} working"
        return self.health["status"], "; ".join([*self.health["causes"], number])

    def as_data(self, now: float) -> dict[str, Any]:
        """The board as data, for ``--json``."""
        age = self.age(now)
        health = self.health or {}
        return {
            "url": self.url,
            "state": self.link.state,
            "live": self.is_live(now),
            "age_seconds": None if age is None else round(age, 3),
            "refused": self.refused,
            "status": health.get("status"),
            "since": health.get("since"),
            "causes": health.get("causes"),
            "groups": health.get("groups"),
            "concerned": health.get("methods"),
            "uptime_seconds": health.get("uptime_seconds"),
            "metrics": self.metrics,
            "executors": self.executors,
            "methods": self.methods[:LIMIT],
            "calls": self.calls[:LIMIT],
            "topics": self.topics[:LIMIT],
        }


def busiest(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The methods in a result of ``metrics.get``, as rows with ``method`` and ``per_second``, most calls first."""
    seconds = answer["window_seconds"]
    rows: Iterable[dict[str, Any]] = (
        {"method": name, "per_second": round(stats["count"] / seconds, 3) if seconds else 0.0, **stats}
        for name, stats in answer["methods"].items()
        if stats["count"]
    )
    return sorted(rows, key=lambda row: (-row["count"], row["method"]))


def rated(topics: list[dict[str, Any]], before: list[dict[str, Any]], seconds: float) -> list[dict[str, Any]]:
    """The rows with ``per_second``, from the offsets of two readings of the same epoch; None after one reading."""
    known = {(row["topic"], row["epoch"]): row["offset"] for row in before}
    rows = []
    for row in topics:
        then = known.get((row["topic"], row["epoch"]))
        rate = None if then is None or seconds <= 0 else round((row["offset"] - then) / seconds, 1)
        rows.append(row | {"per_second": rate})
    return rows
