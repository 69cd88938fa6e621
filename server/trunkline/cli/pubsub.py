"""``trunkline subscribe``, ``trunkline history`` and ``trunkline publish``: receive, list and send events."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from trunkline.cli.show.terminal import say
from trunkline.cli.talk import DEFAULT_URL, EXIT_FAILED, EXIT_USAGE, Token, Url, fail, read_stdin, talk

if TYPE_CHECKING:
    from trunkline.client import Hub, Position, Subscription


class EventFormat(StrEnum):
    """The formats in which events are printed."""

    PRETTY = "pretty"
    JSON = "json"
    NDJSON = "ndjson"
    DATA = "data"


Form = Annotated[
    EventFormat,
    typer.Option(
        "--format",
        help='pretty: time, topic, data. ndjson: one object a line, with "type": "event" or "gap". json: the same, '
        "indented. data: the event's data alone, one line each.",
    ),
]
Ndjson = Annotated[bool, typer.Option("--json", help="Same as --format ndjson.")]

PRINT_QUEUE: Final = 10_000
"""Events that may wait to be printed: in bursts a terminal is slower than a hub."""


def subscribe(
    topics: Annotated[
        list[str],
        typer.Argument(
            metavar="TOPIC",
            help="Topics or patterns, in quotes: '*' is one token, '>' at the end one or more, as in 'orders.*.done'.",
        ),
    ],
    url: Url = DEFAULT_URL,
    token: Token = None,
    form: Form = EventFormat.PRETTY,
    ndjson: Ndjson = False,
    count: Annotated[int | None, typer.Option(min=1, help="Exit after this many events.")] = None,
    recover: Annotated[
        str | None,
        typer.Option(
            "--recover",
            "--since",
            metavar="EPOCH:OFFSET",
            help="Resume after this position, as 'trunkline publish' prints it; for one topic without wildcards.",
        ),
    ] = None,
) -> None:
    """Print events as they are published, until Ctrl-C. Lost events are reported on stderr."""
    asked = read_position(topics, recover)
    chosen = chosen_form(form, ndjson=ndjson)

    async def run(hub: Hub) -> None:
        async with hub.subscribe(*topics, recover=asked, max_queued=PRINT_QUEUE) as events:
            if sys.stderr.isatty():
                print(f"subscribed to {' '.join(topics)}; Ctrl-C ends", file=sys.stderr)
            await print_events(events, chosen, count)

    talk(url, token, run)


def chosen_form(form: EventFormat, *, ndjson: bool) -> EventFormat:
    """The format that ``--format`` and ``--json`` mean together; exits where they contradict each other."""
    if ndjson and form not in (EventFormat.PRETTY, EventFormat.NDJSON):
        fail(EXIT_USAGE, f"--json means --format ndjson and conflicts with --format {form}")
    return EventFormat.NDJSON if ndjson else form


def history(
    topic: Annotated[str, typer.Argument(help="Topic, without wildcards.")],
    url: Url = DEFAULT_URL,
    token: Token = None,
    form: Form = EventFormat.PRETTY,
    ndjson: Ndjson = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Print so many events, at most.")] = 100,
    after: Annotated[
        str | None,
        typer.Option(metavar="EPOCH:OFFSET", help="Print the first events after this position, not the latest."),
    ] = None,
) -> None:
    """Print the events that the hub keeps of a topic, and exit. What is missing is reported on stderr."""
    asked = read_position([topic], after, "--after")
    chosen = chosen_form(form, ndjson=ndjson)

    async def run(hub: Hub) -> None:
        from trunkline.cli.show.tables import EventPrinter, while_output_is_read

        kept = await hub.history(topic, after=asked, limit=limit)
        printer = EventPrinter(chosen.value)
        with while_output_is_read():
            if kept.gap is not None:
                printer.gap(kept.gap)
            for event in kept.events:
                printer.event(event)
            if kept.more:
                say(f"trunkline: more follows: --after {kept.events[-1].position}", error=True)

    talk(url, token, run)


async def print_events(events: Subscription, form: EventFormat, count: int | None) -> None:
    """Print events and gaps, until ``count`` events are printed; exits where the connection is lost."""
    from trunkline.cli.show.tables import EventPrinter, while_output_is_read
    from trunkline.client import DisconnectedError, Gap

    printer = EventPrinter(form.value)
    try:
        with while_output_is_read():
            async for item in events:
                if isinstance(item, Gap):
                    printer.gap(item)
                    continue
                printer.event(item)
                if count is not None:
                    count -= 1
                    if not count:
                        return
    except DisconnectedError as error:
        resume = [f"resume with: --recover {events.position}"] if events.position else []
        fail(EXIT_FAILED, str(error), *resume)


def read_position(topics: list[str], recover: str | None, option: str = "--recover") -> Position | None:
    """The position that ``--recover`` (or another option) names; exits where a topic or the position is not valid."""
    from trunkline.client import Position
    from trunkline_protocol.topics import is_wildcard, valid_pattern

    for topic in topics:
        if not valid_pattern(topic):
            fail(
                EXIT_USAGE,
                f"{topic!r} is neither topic nor pattern: write tokens joined by dots, as in orders.42 or 'orders.*'",
            )
    if recover is None:
        return None
    if len(topics) > 1 or is_wildcard(topics[0]):
        fail(EXIT_USAGE, f"{option} is the position of one topic; name that topic alone, without wildcards")
    try:
        return Position.parse(recover)
    except ValueError as error:
        fail(EXIT_USAGE, f"{option}: {error}")


def publish(
    topic: Annotated[str, typer.Argument(help="Topic, for example orders.42.done.")],
    data: Annotated[
        str | None, typer.Argument(help="The event's data as JSON. '-', or nothing in a pipe, reads standard input.")
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    text: Annotated[
        bool, typer.Option("--text", help="Send DATA as a string (of standard input without its last line break).")
    ] = False,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Publishing again with the same key within five minutes adds no second event.")
    ] = None,
) -> None:
    """Publish an event and print its position, EPOCH:OFFSET, once it is stored."""
    from trunkline_protocol.topics import valid_topic

    if not valid_topic(topic):
        fail(
            EXIT_USAGE,
            f"{topic!r} is not a topic: write tokens joined by dots, without blanks and wildcards, as in orders.42",
        )
    decoded = read_data(data, as_text=text)

    async def run(hub: Hub) -> None:
        say(str(await hub.publish(topic, decoded, idempotency_key=idempotency_key)))

    talk(url, token, run)


def read_data(text: str | None, *, as_text: bool) -> Any:
    """An event's data from the command line, or from standard input for ``-`` or nothing; exits where not valid."""
    if text is None and (sys.stdin is None or sys.stdin.isatty()):
        fail(EXIT_USAGE, "no DATA: give it as an argument, or pipe it in")
    source = read_stdin() if text in (None, "-") else str(text)
    if as_text:
        return source if text not in (None, "-") else source.removesuffix("\n")
    try:
        return json.loads(source)
    except ValueError as error:
        fail(EXIT_USAGE, f"DATA is not JSON: {error}", "to send it as a string, add --text")
