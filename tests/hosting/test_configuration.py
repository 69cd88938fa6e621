"""Settings that change while a hub runs: what is live stands in one place, and checks name all that is wrong."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Final

import pytest

from trunkline import defaults
from trunkline.config import LIVE_SETTINGS, Settings, load_settings
from trunkline.hub.shares import ShareLimits
from trunkline.settings.naming import SettingsError

ROOT: Final = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_other_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TRUNKLINE_{name.upper()}", raising=False)


def problems(settings: Settings, changes: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(SettingsError) as caught:
        settings.with_changes(changes)
    return caught.value.errors


def test_what_is_live_is_applied_and_is_on_the_page() -> None:
    applied = set(re.findall(r"\bsettings\.(\w+)", (ROOT / "server/trunkline/hosting/live.py").read_text()))
    of_jobs = set(re.findall(r"\bsettings\.(\w+)", (ROOT / "server/trunkline/jobs/limits.py").read_text()))
    talks = ROOT / "server/trunkline/conversations/limits.py"
    of_conversations = set(re.findall(r"\bsettings\.(\w+)", talks.read_text()))
    of_breakers = set(re.findall(r"\bsettings\.(\w+)", (ROOT / "server/trunkline/hub/breaker.py").read_text()))
    of_shares = {field.name for field in dataclasses.fields(ShareLimits)} - {"max_calls_per_tenant"}
    assert applied | (of_jobs - {"executors"}) | of_conversations | of_breakers | of_shares == LIVE_SETTINGS
    page = (ROOT / "docs/operations.md").read_text()
    section = page.partition("## Changing settings")[2].partition("\nFor a while:")[0]
    assert set(re.findall(r"`([a-z_]+)`[,.]", section.partition("- **Logs and metrics**")[2])) == LIVE_SETTINGS


def test_a_changed_setting_leaves_the_others_and_says_where_it_is_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "hub.toml"
    file.write_text('max_calls = 5\ntoken = "s3cret-token"\n')
    monkeypatch.setenv("TRUNKLINE_RATE_LIMIT", "7")
    settings = load_settings(file, executors=3)
    assert settings.origins == {
        "max_calls": "file", "token": "file", "rate_limit": "environment", "executors": "command line",
    }  # fmt: skip
    changed = settings.with_changes({"rate_limit": 9, "max_calls": 5})
    assert (changed.rate_limit, changed.max_calls, changed.executors, changed.token) == (9, 5, 3, settings.token)
    assert changed.origins == settings.origins | {"rate_limit": "update"}, "the other is what it was"
    file.write_text("max_calls = 6\n")
    again = changed.read_again()
    assert (again.max_calls, again.rate_limit, again.executors, again.token) == (6, 7, 3, None)


def test_all_that_is_wrong_is_said_at_once_and_no_value_repeated() -> None:
    found = dict(
        problems(Settings(), {"rate_limit": "s3cret", "executors": -1, "max_cals": "s3cret", "log_level": "s3cret"})
    )
    assert found.keys() == {"rate_limit", "executors", "max_cals", "log_level"}
    assert "did you mean max_calls?" in found["max_cals"]
    assert "s3cret" not in str(found)
    assert problems(Settings(), {"host": "0.0.0.0"})[0][0] == "", "it concerns several"


def test_changes_are_laid_over_what_the_hub_has() -> None:
    open_to_all = Settings(token="a-token").with_changes({"host": "0.0.0.0"})
    assert not open_to_all.is_loopback
    assert open_to_all.max_calls == defaults.MAX_CALLS
