"""``trunkline reload``: has the executors of a running hub replaced by ones with the code that is on disk now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from trunkline.cli.show.terminal import say
from trunkline.cli.talk import DEFAULT_URL, TimeoutMs, Token, Url, print_json, read, talk

if TYPE_CHECKING:
    from trunkline.client import Hub

DEFAULT_TIMEOUT_MS: Final = 3_600_000


def reload(
    group: Annotated[str | None, typer.Argument(help="The executors of this group alone.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    timeout_ms: TimeoutMs = None,
    raw: Annotated[bool, typer.Option("--json", help="Print the hub's answer as JSON.")] = False,
) -> None:
    """Load methods anew, without a dropped call: new executors are ready before they replace the old ones.

    Where the new code does not load, the old code goes on, and the exit code is 1. Needs the role admin.
    """

    async def run(hub: Hub) -> None:
        from trunkline.hosting.code_watch import words_of
        from trunkline_protocol.reports import Reloaded

        began = time.monotonic()
        params = {} if group is None else {"group": group}
        answer = await hub.call("executors.reload", params, timeout_ms=timeout_ms or DEFAULT_TIMEOUT_MS)
        if raw:
            print_json(answer)
        else:
            say(words_of(read(answer, Reloaded), time.monotonic() - began))

    talk(url, token, run)
