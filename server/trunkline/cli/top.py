"""``trunkline top``: watches a hub in the terminal."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from trunkline.cli.talk import DEFAULT_URL, Token, Url, with_hub


def top(
    url: Url = DEFAULT_URL,
    token: Token = None,
    interval: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two refreshes.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one snapshot and exit.")] = False,
    raw: Annotated[bool, typer.Option("--json", help="Print one snapshot as a JSON object.")] = False,
) -> None:
    """Watch a hub: its health, executors, busiest methods, calls in flight and topics. 'q' quits.

    Where standard output is not a terminal, one snapshot is printed. Live figures, calls in flight and topics need the
    role admin.
    """
    single = once or raw or not sys.stdout.isatty()

    async def run() -> None:
        from trunkline.cli.show.top.program import print_once, show
        from trunkline.client import Reconnect, connect

        policy = False if single else Reconnect(max_delay=5.0)
        async with connect(url, token=token, reconnect=policy) as hub:
            if single:
                await print_once(hub, url, as_json=raw)
            else:
                await show(hub, url, interval)

    with_hub(url, run)
