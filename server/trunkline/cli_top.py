"""``trunkline top``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer

WithHub = Callable[[str, Callable[[], Coroutine[Any, Any, None]]], None]


def top_command(with_hub: WithHub, *, default_url: str) -> Callable[..., None]:
    """The command.

    Args:
        with_hub: runs something that needs a hub, and turns what goes wrong into words and an exit code.
    """

    def top(
        url: Annotated[str, typer.Option("--url", envvar="TRUNKLINE_URL", help="WebSocket of the hub.")] = default_url,
        token: Annotated[
            str | None, typer.Option(envvar="TRUNKLINE_TOKEN", help="Bearer token, where the hub wants one.")
        ] = None,
        interval: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two looks.")] = 1.0,
        once: Annotated[bool, typer.Option("--once", help="Print one snapshot and end.")] = False,
        raw: Annotated[bool, typer.Option("--json", help="One snapshot as a JSON object.")] = False,
    ) -> None:
        """Watch a hub: its health, executors, busiest methods, calls in flight and topics. 'q' quits.

        Where standard output is no terminal, one snapshot is printed. Live figures, calls and topics take the role
        admin on hubs that have roles.
        """
        single = once or raw or not sys.stdout.isatty()

        async def run() -> None:
            from trunkline.client import Reconnect, connect
            from trunkline.top.program import print_once, show

            policy = False if single else Reconnect(max_delay=5.0)
            async with connect(url, token=token, reconnect=policy) as hub:
                if single:
                    await print_once(hub, url, as_json=raw)
                else:
                    await show(hub, url, interval)

        with_hub(url, run)

    return top
