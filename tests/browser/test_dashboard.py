"""The live dashboard in a real Chromium, against real hubs that work, break and come back."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import BrowserContext, Page, expect

from tests.browser.conftest import ROOT
from tests.browser.dashboard import VIEWS, dashboard, load, says, show
from tests.support.hub import RunningHub, ready_hub
from tests.support.peer import peer
from tests.support.ports import reserved_port
from tests.support.timing import SCALE

AXE: Final = (ROOT / "clients" / "node_modules" / "axe-core" / "axe.min.js").read_text()
TOKEN: Final = "a-long-enough-token-for-this-hub"


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    with ready_hub(executors=2) as running:
        yield running


@pytest.mark.alone
async def test_a_killed_executor_is_said_within_two_seconds(context: BrowserContext) -> None:
    with ready_hub(executors=2) as hub:
        async with load(hub), dashboard(context, hub) as page:
            await says(page, "Live")
            await expect(page.locator(".banner")).to_contain_text("2 of 2 executors working")
            os.kill(min(hub.executor_pids()), signal.SIGKILL)
            news = page.locator(".log").get_by_text("SIGKILL").first
            await expect(news).to_be_visible(timeout=2000 * SCALE)
            assert "executor-" in (await news.text_content() or "")
            await expect(page.locator(".banner")).not_to_contain_text("executor-")
            await show(page, "executors")
            await expect(page.locator(".lane").get_by_text("Last failure").first).to_contain_text("SIGKILL")


async def test_a_method_that_fails_is_said_with_what_its_error_says(context: BrowserContext) -> None:
    with ready_hub(env={"TRUNKLINE_DEBUG": "true"}) as hub:
        async with peer(hub.url) as caller, dashboard(context, hub) as page:
            await says(page, "Live")
            await expect(page.locator(".banner .headline")).to_have_text("Healthy")
            for _ in range(5):
                await caller.error("debug.fail", {"message": "the index is corrupt"})
            banner = page.locator(".banner")
            await expect(banner).to_contain_text("debug.fail fails 100 %")
            await expect(banner.locator(".headline")).to_contain_text("Degraded since")
            await expect(banner).to_contain_text("the index is corrupt")
            methods = page.get_by_role("region", name="Methods", exact=True)
            first = methods.get_by_role("row").nth(1)
            await expect(first).to_contain_text("debug.fail")
            await expect(first).to_contain_text("the index is corrupt")
            failures = page.get_by_role("region", name="Failures by method")
            await expect(failures).to_contain_text("the index is corrupt")
            await show(page, "logs")
            traceback = page.get_by_role("region", name="Traceback").first
            text = await traceback.text_content() or ""
            assert text.startswith("Traceback (most recent call last)")
            assert text.rstrip().endswith("RuntimeError: the index is corrupt"), "whole, the right way round"


async def test_who_may_not_see_figures_is_told_so_and_shown_no_zeros(context: BrowserContext, tmp_path: Path) -> None:
    secret = "a-workers-token-0003"
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'[[tokens]]\nname = "worker"\nsha256 = "{hashlib.sha256(secret.encode()).hexdigest()}"\n')
    tokens.chmod(0o600)
    with ready_hub(env={"TRUNKLINE_TOKENS_FILE": str(tokens)}) as hub:
        async with dashboard(context, hub) as page:
            await page.get_by_label("Token").fill(secret)
            await page.get_by_role("button", name="Connect").click()
            await expect(page.get_by_text("Not allowed: worker may not")).to_have_count(3)
            await expect(page.locator(".figure")).to_have_count(0)
            await expect(page.locator(".banner")).to_contain_text("1 of 1 executor working")


async def test_a_hub_that_is_gone_is_not_shown_as_live(context: BrowserContext) -> None:
    with reserved_port() as port, ready_hub(arguments=("--port", str(port))) as hub:
        async with dashboard(context, hub) as page:
            await says(page, "Live")
            figure = page.locator(".figure").first
            await expect(figure.locator("small")).to_have_count(0)
            hub.process.kill()
            hub.wait_ended(-signal.SIGKILL)
            await says(page, "Reconnecting")
            await expect(page.locator(".banner .headline")).to_contain_text("Not live")
            await expect(figure.locator("small")).to_contain_text("old")
            await expect(page).to_have_title("! Reconnecting · Trunkline")
            with ready_hub(arguments=("--port", str(port))):
                await says(page, "Live")
                await expect(page.locator(".banner .headline")).to_have_text("Healthy")
                await expect(figure.locator("small")).to_have_count(0)


async def test_a_hub_that_says_nothing_goes_stale(context: BrowserContext) -> None:
    with ready_hub() as hub:
        async with dashboard(context, hub) as page:
            await says(page, "Live")
            os.kill(hub.process.pid, signal.SIGSTOP)
            try:
                await says(page, "Stale")
                await expect(page.locator(".figure.old")).not_to_have_count(0)
            finally:
                os.kill(hub.process.pid, signal.SIGCONT)
            await says(page, "Live")


async def test_a_call_is_cancelled_from_the_page(context: BrowserContext, hub: RunningHub) -> None:
    async with peer(hub.url) as caller, dashboard(context, hub, "requests") as page:
        await says(page, "Live")
        request = await caller.request("debug.sleep", {"seconds": 60})
        button = page.get_by_role("region", name="In flight").get_by_role("button")
        await button.click()
        reply = await caller.reply(request)
        assert reply["error"]["code"] == -32800
        await expect(page.locator(".notice")).to_have_text("Cancelled debug.sleep")
        await expect(button).to_have_count(0)


async def test_the_console_streams(context: BrowserContext, hub: RunningHub) -> None:
    async with dashboard(context, hub, "console") as page:
        await page.get_by_label("Find").fill("debug.count")
        await page.get_by_role("button", name="debug.count").click()
        await page.get_by_role("button", name="Stream it").click()
        await expect(page.get_by_text("n is required")).to_be_visible()
        await page.locator("#param-n").fill("30")
        await page.locator("#param-interval_ms").fill("5")
        await page.get_by_role("button", name="Stream it").click()
        await expect(page.locator(".outcome .state")).to_have_text("ok")
        assert '"chunks": 30' in (await page.locator(".result pre").text_content() or "")
        facts = page.locator(".stream .facts")
        await expect(facts.locator("div", has_text="chunks").locator("dd")).to_have_text("30")
        await expect(facts.locator("div", has_text="first chunk").locator("dd")).to_contain_text("ms")
        await expect(page.locator(".stream tbody tr")).to_have_count(30)


async def test_the_console_calls_and_tells_errors(context: BrowserContext, hub: RunningHub) -> None:
    async with dashboard(context, hub, "console") as page:
        await page.get_by_role("button", name="debug.echo").click()
        await page.locator("#param-value").fill("{")
        await page.get_by_role("button", name="Call it").click()
        await expect(page.get_by_text("value is not JSON")).to_be_visible()
        await page.locator("#param-value").fill('{"list": [1, null, "ü"]}')
        await page.get_by_role("button", name="Call it").click()
        await expect(page.locator(".outcome .state")).to_have_text("ok")
        assert '"ü"' in (await page.locator(".result pre").text_content() or "")
        await page.get_by_role("button", name="debug.fail").click()
        await page.get_by_role("button", name="Call it").click()
        await expect(page.locator(".outcome .state")).to_have_text("INTERNAL_ERROR -32603")


async def test_a_running_call_of_the_console_is_cancelled(context: BrowserContext, hub: RunningHub) -> None:
    async with dashboard(context, hub, "console") as page:
        await page.get_by_role("button", name="debug.sleep").click()
        await page.locator("#param-seconds").fill("60")
        await page.get_by_role("button", name="Call it").click()
        await expect(page.locator(".outcome .state")).to_have_text("running")
        await page.get_by_role("button", name="Cancel", exact=True).click()
        await expect(page.locator(".outcome .state")).to_have_text("CANCELLED -32800")


async def test_failures_are_grouped_copied_and_tried_again(context: BrowserContext, hub: RunningHub) -> None:
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    async with dashboard(context, hub, "requests") as page, peer(hub.url) as caller:
        await says(page, "Live")
        given = {"message": "the model is gone"}
        for _ in range(3):
            await caller.error("debug.fail", given)
        await caller.result("debug.echo", {"value": 1})
        row = page.get_by_role("region", name="Failures").locator("tbody tr", has_text="debug.fail")
        await expect(row.locator(".number")).to_have_text("3")
        await row.get_by_role("button", name="Copy").click()
        await expect(page.locator(".notice")).to_have_text("Copied the request")
        copied = json.loads(await page.evaluate("navigator.clipboard.readText()"))
        assert copied == {"jsonrpc": "2.0", "id": 1, "method": "debug.fail", "params": given}
        await page.get_by_label("Outcome").select_option("failed")
        recent = page.get_by_role("region", name="Recent calls").locator("tbody tr")
        await expect(recent.filter(has_text="debug.echo")).to_have_count(0)
        await expect(recent.filter(has_text="debug.fail")).to_have_count(3)
        await row.get_by_role("button", name="Try again: debug.fail").click()
        await expect(page.locator(".call h2")).to_have_text("debug.fail")
        await expect(page.locator("#param-message")).to_have_value(given["message"])
        await expect(page.locator(".outcome")).to_have_count(0)  # people send it, not the page
        await caller.error("debug.fail", {"message": "gone", "loud": True, "api_key": "abc"})
        await show(page, "requests")
        refused = page.get_by_role("region", name="Failures").locator("tbody tr", has_text="INVALID_PARAMS")
        await refused.get_by_role("button", name="Try again: debug.fail").click()
        await expect(page.locator(".notice")).to_have_text(
            "Left out, for debug.fail has no such parameters: loud, api_key"
        )


async def test_what_is_not_kept_is_said(context: BrowserContext) -> None:
    with ready_hub(env={"TRUNKLINE_KEEP_FAILED_PARAMS": "false"}) as hub:
        async with dashboard(context, hub, "requests") as page, peer(hub.url) as caller:
            await says(page, "Live")
            await caller.error("debug.fail", {"message": "the model is gone"})
            failures = page.get_by_role("region", name="Failures")
            await failures.get_by_role("button", name="Try again: debug.fail").click()
            words = "The params of this call are not kept: fill in the form."
            await expect(page.locator(".notice")).to_have_text(words)
            await expect(page.locator("#param-message")).to_have_value("")


async def test_topics_are_listed_sorted_found_and_followed(context: BrowserContext, hub: RunningHub) -> None:
    async with dashboard(context, hub, "topics") as page, peer(hub.url) as caller:
        await says(page, "Live")
        await caller.result("subscribe", {"topic": "list.awaited"})
        for topic in ("list.b", "list.a", "list.b"):
            await caller.result("publish", {"topic": topic, "data": {"said on": topic}})
        await page.get_by_label("Find").fill("list.")
        rows = page.get_by_role("region", name="Topics").locator("tbody tr")
        await expect(rows).to_have_count(3)
        await page.get_by_role("button", name="topic", exact=True).click()
        names = rows.locator("td:first-child")
        await expect(names).to_have_text(["list.a", "list.awaited", "list.b"])
        await page.get_by_role("button", name="events", exact=True).click()
        await expect(names).to_have_text(["list.b", "list.a", "list.awaited"])
        await expect(page.get_by_role("columnheader", name="events", exact=True)).to_have_attribute(
            "aria-sort", "descending"
        )
        kept = rows.nth(0).locator("td")
        await expect(kept.nth(3)).to_have_text("2")
        await expect(kept.nth(4)).to_have_text("2")
        await expect(rows.nth(2).locator("td").nth(2)).to_have_text("1")
        await rows.nth(0).get_by_role("button").click()
        await expect(page.get_by_text("No event yet.")).to_be_visible()
        await caller.result("publish", {"topic": "list.b", "data": "heard"})
        await expect(page.get_by_role("region", name="Events").locator("tbody tr")).to_have_count(1)
        await expect(kept.nth(3)).to_have_text("3")


async def test_the_log_is_followed_filtered_and_leads_to_calls(context: BrowserContext) -> None:
    with ready_hub(env={"TRUNKLINE_LOG_REQUESTS": "true"}) as hub:
        async with dashboard(context, hub, "logs") as page, peer(hub.url) as caller:
            await says(page, "Live")
            records = page.get_by_role("region", name="Log records").locator("tbody tr")
            await expect(records.filter(has_text="listening")).to_have_count(1)
            await caller.error("debug.fail", {"message": "gone"}, metadata={"request_id": "order-7"})
            await caller.result("debug.echo", {"value": 1}, metadata={"request_id": "order-8"})
            only = page.get_by_label("Containing")
            await only.fill("order-")
            await expect(records).to_have_count(3)  # of both calls, and what the method logs of its failure
            await page.get_by_label("Level").select_option("error")
            await expect(page.get_by_text("No record matches the filter.")).to_be_visible()
            await page.get_by_label("Level").select_option("info")
            await page.get_by_label("Executor").select_option("executor-0")
            await expect(records).to_have_count(3)
            await page.get_by_role("button", name="Pause").click()
            await caller.result("debug.echo", {"value": 2}, metadata={"request_id": "order-9"})
            # One, or more: of the hub's own words, too.
            await expect(page.get_by_role("button", name=re.compile(r"Resume \([1-9]\d* new\)"))).to_be_visible()
            await expect(records).to_have_count(3)
            await page.get_by_role("button", name="Resume").click()
            await expect(records).to_have_count(4)
            await page.get_by_role("button", name="Calls of order-7").first.click()
            recent = page.get_by_role("region", name="Recent calls").locator("tbody tr")
            await expect(recent).to_have_count(1)
            await expect(recent).to_contain_text("debug.fail")
            await caller.result("debug.echo", {"value": 3}, metadata={"request_id": "order-10"})  # nobody looks
            await recent.get_by_role("button", name="Log of order-7").click()
            await expect(only).to_have_value("order-7")
            await expect(records).to_have_count(2)


async def test_another_page_sees_what_the_first_has_seen_of_the_log(context: BrowserContext) -> None:
    with ready_hub() as hub:
        async with dashboard(context, hub, "logs") as page:
            shown = page.get_by_role("region", name="Log records").locator("tbody tr", has_text="listening")
            await expect(shown).to_have_count(1)
            async with dashboard(context, hub, "logs") as other:
                again = other.get_by_role("region", name="Log records").locator("tbody tr", has_text="listening")
                await expect(again).to_have_count(1)


async def test_the_tail_follows_filters_and_pauses(context: BrowserContext, hub: RunningHub) -> None:
    async with dashboard(context, hub, "topics") as page, peer(hub.url) as caller:
        await says(page, "Live")
        await page.get_by_label("Topic or pattern").fill("tail.>")
        await page.get_by_role("button", name="Follow", exact=True).click()
        await expect(page.get_by_text("No event yet.")).to_be_visible()
        for number in range(5):
            await caller.result("publish", {"topic": f"tail.{number % 2}", "data": {"number": number}})
        rows = page.get_by_role("region", name="Events").locator("tbody tr")
        await expect(rows).to_have_count(5)
        await page.get_by_label("Containing").fill('"number":3')
        await expect(rows).to_have_count(1)
        await page.get_by_label("Containing").fill("")
        await page.get_by_role("button", name="Pause").click()
        await caller.result("publish", {"topic": "tail.0", "data": "later"})
        await expect(page.get_by_role("button", name="Resume (1 new)")).to_be_visible()
        await expect(rows).to_have_count(5)
        await page.get_by_role("button", name="Resume").click()
        await expect(rows).to_have_count(6)


async def test_what_the_tail_did_not_get_is_said(context: BrowserContext) -> None:
    with ready_hub(env={"TRUNKLINE_OUTBOX_EVENT_BYTES": "200000"}) as hub:
        async with dashboard(context, hub, "topics") as page, peer(hub.url) as caller:
            await says(page, "Live")
            await page.get_by_label("Topic or pattern").fill("flood")
            await page.get_by_role("button", name="Follow", exact=True).click()
            await expect(page.get_by_text("No event yet.")).to_be_visible()
            debugger = await context.new_cdp_session(page)
            await debugger.send("Debugger.enable")
            await debugger.send("Debugger.pause")  # the page reads nothing, however long that takes
            for _ in range(300):
                await caller.result("publish", {"topic": "flood", "data": "x" * 100_000})
            await debugger.send("Debugger.resume")
            await debugger.send("Debugger.disable")
            await expect(page.locator("tr.gap").first).to_contain_text("dropped")
            await expect(page.locator(".note b.bad")).to_contain_text("dropped")


async def test_the_token_is_asked_for_and_kept_for_the_tab(context: BrowserContext) -> None:
    with ready_hub(env={"TRUNKLINE_TOKEN": TOKEN}) as hub:
        async with dashboard(context, hub) as page:
            field = page.get_by_label("Token")
            await expect(page.get_by_role("alert")).to_have_text("This hub requires a token.")
            await require_no_serious_fault(page)
            await field.fill("wrong")
            await page.get_by_role("button", name="Connect").click()
            await expect(page.get_by_role("alert")).to_have_text("The hub does not accept this token.")
            await field.fill(TOKEN)
            await field.press("Enter")
            await says(page, "Live")
            await page.reload()
            await says(page, "Live")
            assert TOKEN not in page.url
            assert await page.evaluate("[document.cookie, localStorage.length]") == ["", 0]
            await page.get_by_role("button", name="Sign out").click()
            await expect(field).to_be_visible()


async def test_a_part_of_the_past_is_looked_at(context: BrowserContext, hub: RunningHub) -> None:
    async with load(hub), dashboard(context, hub) as page:
        await says(page, "Live")
        plot = page.locator(".u-over").first
        await expect(plot).to_be_visible()
        box = await plot.bounding_box()
        assert box is not None
        await page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 40)
        await page.mouse.down()
        await page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 50, steps=5)
        cursors = page.locator(".u-cursor-x:not(.u-off)")
        await expect(cursors).to_have_count(await page.locator(".u-over").count())
        await page.mouse.up()
        back = page.get_by_role("button", name="Back to now")
        await back.click()
        await expect(back).to_have_count(0)


async def test_keys_reach_everything(context: BrowserContext, hub: RunningHub) -> None:
    async with dashboard(context, hub) as page:
        await says(page, "Live")
        await page.keyboard.press("Tab")
        await expect(page.get_by_text("Skip to content")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()
        for view in VIEWS:
            await page.get_by_role("link", name=view.title()).focus()
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("heading", level=1)).to_be_attached()
            outline = "getComputedStyle(document.activeElement).outlineStyle"
            assert await page.evaluate(outline) == "solid", "who uses keys sees where they are"


async def test_it_fits_a_phone(context: BrowserContext, hub: RunningHub) -> None:
    async with load(hub), dashboard(context, hub) as page:
        await page.set_viewport_size({"width": 360, "height": 740})
        await says(page, "Live")
        for view in VIEWS:
            await show(page, view)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 360, view


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(context: BrowserContext, scheme: str) -> None:
    with ready_hub(executors=2) as hub:
        async with dashboard(context, hub) as page:
            await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            async with load(hub):
                await says(page, "Live")
                await fill_every_view(page)
                for view in VIEWS:
                    await show(page, view)
                    await require_no_serious_fault(page)
            hub.process.kill()
            hub.wait_ended(-signal.SIGKILL)
            await expect(page.locator(".figure.old, .not-live").first).to_be_attached()
            for view in VIEWS:
                await show(page, view)
                await require_no_serious_fault(page)


async def fill_every_view(page: Page) -> None:
    """Something to see in each: a tail, a stream's chunks, a failure."""
    await show(page, "topics")
    await page.get_by_label("Topic or pattern").fill("jobs.>")
    await page.get_by_role("button", name="Follow", exact=True).click()
    await expect(page.get_by_role("region", name="Events").locator("tbody tr").first).to_be_visible()
    await show(page, "console")
    await page.get_by_role("button", name="debug.count").click()
    await page.locator("#param-n").fill("20")
    await page.get_by_role("button", name="Stream it").click()
    await expect(page.locator(".outcome .state")).to_have_text("ok")
    await show(page, "requests")
    failures = page.get_by_role("region", name="Failures")
    await expect(failures.get_by_text("debug.fail").first).to_be_visible()


async def require_no_serious_fault(page: Page) -> None:
    """Run axe-core. It comes by the debugger: the page's own policy lets no foreign script in."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE)
    found = await page.evaluate(
        """async () => (await axe.run()).violations
             .filter(({ impact }) => impact === "serious" || impact === "critical")
             .map(({ id, nodes }) => [id, ...nodes.map((node) => node.html + node.failureSummary)])"""
    )
    assert found == []
