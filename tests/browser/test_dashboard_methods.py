"""The dashboard's lists of methods, while executors come, go and load other code."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, expect

from tests.browser.dashboard import dashboard, says, show
from tests.support.hub import DEBUG_METHODS, MODULES, RunningHub, ready_hub
from tests.support.peer import peer
from trunkline.executors import supervisor


@pytest.mark.parametrize("others", [(), (DEBUG_METHODS,)], ids=["executor ready", "code reloaded"])
async def test_the_console_lists_what_is_served_by_now(
    context: BrowserContext, tmp_path: Path, others: tuple[str, ...]
) -> None:
    """``mended`` can be loaded later only: by the next process where nothing else was, else by an order."""
    mended = tmp_path / "weights.bin"
    constants = {f"{supervisor.__name__}:BACKOFF_LIMIT": 0.1}
    with RunningHub((*others, "mended"), cwd=MODULES, env={"MENDED_BY": str(mended)}, constants=constants) as hub:
        async with peer(hub.url) as caller, dashboard(context, hub) as page:
            await says(page, "Live")
            banner = page.locator(".banner")
            await expect(banner).to_contain_text("module mended could not be loaded")
            await expect(banner.get_by_text("weights.bin")).to_have_count(1)
            next_step = "loaded again by trunkline reload" if others else "executor-0 is started again"
            await expect(banner).to_contain_text(next_step)
            await show(page, "console")
            names = page.get_by_role("list", name="Methods")
            await expect(names.get_by_text("rpc.discover", exact=True)).to_be_visible()
            await expect(names.get_by_text("mended.ping")).to_have_count(0)
            mended.touch()
            if others:
                await caller.result("executors.reload")
            await expect(names.get_by_text("mended.ping")).to_be_visible()


async def test_methods_that_are_not_served_are_one_row_a_reason(context: BrowserContext) -> None:
    stays_down = {f"{supervisor.__name__}:{name}": 600.0 for name in ("BACKOFF_FIRST", "BACKOFF_LIMIT")}
    with ready_hub(constants=stays_down) as hub:
        async with dashboard(context, hub) as page:
            await says(page, "Live")
            (pid,) = hub.executor_pids()
            os.kill(pid, signal.SIGKILL)
            methods = page.get_by_role("region", name="Methods", exact=True).last
            row = methods.get_by_role("row").filter(has_text="no executor of the group default answers")
            await expect(row).to_have_count(1)
            await expect(methods.get_by_text("debug.echo")).to_have_count(0)
            await row.get_by_role("button").click()
            await expect(methods.get_by_text("debug.echo")).to_be_visible()
            await expect(row.get_by_role("button")).to_have_attribute("aria-expanded", "true")
            await expect(row).to_have_count(1)
            await show(page, "requests")
            async with peer(hub.url) as caller:
                await caller.request("debug.echo", {"value": 1})
                waiting = page.get_by_role("region", name="In flight").last.get_by_role("row").nth(1)
                await expect(waiting).to_contain_text("queued")
                await expect(waiting.get_by_role("cell").nth(2)).to_have_text("–")
