"""docs/production.md: its unit, its settings, its script and the commands of its page for 3 a.m., as they stand there.

Its reverse proxies are run by ``tests/interop/test_production_proxies.py``.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path
from typing import Final

import pytest

from tests.jobs.test_store import made
from tests.support.command import trunkline
from tests.support.hub import RunningHub
from tests.support.pages import REPOSITORY, blocks_of
from tests.support.timing import START
from trunkline.cli.security.facts import Facts
from trunkline.cli.security.findings import judge
from trunkline.config import Settings, load_settings
from trunkline.executors.process import CLOSE_SECONDS
from trunkline.jobs.job import Started

PAGE: Final = REPOSITORY / "docs" / "production.md"
FILES: Final = {block.rule.removeprefix("file: "): block.code for block in blocks_of(PAGE)}
AT_NIGHT: Final = re.findall(r"^- \*\*[^*]+\*\*:? `([^`]+)`\.? \*It says\*", PAGE.read_text(), re.MULTILINE)
"""The command of each entry."""


def settings_of(folder: Path) -> Settings:
    """The page's settings, as a hub reads them."""
    config = folder / "production.toml"
    config.write_text(FILES["production.toml"])
    return load_settings(config)


def test_nothing_can_be_said_against_the_settings(tmp_path: Path) -> None:
    facts = Facts(now=0.0, user=1000, core_limit=0, unstated_is_granted=False)
    assert judge(settings_of(tmp_path), facts) == []


def unit() -> RawConfigParser:
    parsed = RawConfigParser(strict=False)
    parsed.read_string(FILES["trunkline.service"])
    return parsed


def test_the_unit_gives_the_hub_time_to_stop_and_room_for_connections(tmp_path: Path) -> None:
    service, settings = unit()["Service"], settings_of(tmp_path)
    stops_within = settings.drain_seconds + settings.close_seconds + 2 * CLOSE_SECONDS
    assert int(service["TimeoutStopSec"]) > 2 * stops_within
    assert int(service["LimitNOFILE"]) > 2 * settings.max_connections
    assert service["LimitCORE"] == "0"
    assert service["ExecStart"].endswith("--config /etc/trunkline/hub.toml")


def test_systemd_knows_every_line_of_the_unit(tmp_path: Path) -> None:
    analyse = shutil.which("systemd-analyze")
    if analyse is None:
        pytest.skip("no systemd-analyze here")
    file = tmp_path / "trunkline.service"
    code = FILES["trunkline.service"]
    assert "/opt/trunkline/bin/trunkline " in code
    file.write_text(code.replace("/opt/trunkline/bin/trunkline ", f"{sys.executable} "))
    done = subprocess.run([analyse, "verify", "--man=no", str(file)], capture_output=True, text=True, check=False)
    if "Failed to initialize" in done.stderr or "Failed to connect" in done.stderr:
        pytest.skip(f"systemd-analyze does not work here: {done.stderr}")
    assert "trunkline.service" not in done.stderr, done.stderr
    misspelt = code.replace("LimitNOFILE", "LimitNOFILES").replace(
        "/opt/trunkline/bin/trunkline ", f"{sys.executable} "
    )
    file.write_text(misspelt)
    done = subprocess.run([analyse, "verify", "--man=no", str(file)], capture_output=True, text=True, check=False)
    assert "LimitNOFILES" in done.stderr, "it would say so"


def test_the_page_has_an_entry_for_each_trouble() -> None:
    assert len(AT_NIGHT) == PAGE.read_text().count("*It says*") >= 14


@pytest.mark.parametrize("command", AT_NIGHT)
def test_a_command_of_the_night_runs(command: str, debug_hub: RunningHub, tmp_path: Path) -> None:
    program, *arguments = shlex.split(command.replace("8765", str(debug_hub.port)))
    if program == "curl":
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=START, check=False)
    else:
        assert program == "trunkline"
        done = trunkline(*arguments, env={"TRUNKLINE_URL": debug_hub.url}, cwd=tmp_path)
    assert done.returncode == 0 or (command == "trunkline doctor" and "failed" in done.stdout), done.stderr
    assert done.stdout or command.endswith("--status running") or "--bundle" in command, "it says something"


UPGRADE: Final = """
systemctl() { echo "systemctl $*" >> "$STEPS"; }
runuser() { shift 3; "$@"; }
"""
"""What only root on a machine with systemd has."""

NEW_VERSION: Final = """#!/bin/sh
echo "$1" >> "$STEPS"
[ "$1" != doctor ] || exit "$FOUND"
exec {python} -m trunkline.cli "$@"
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The folders of a machine with an old version and a new one, and data with a job."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "hub.toml").write_text(FILES["production.toml"])
    for folder in ("lib/trunkline", "opt-0.1.0/bin", "opt-0.2.0/bin"):
        (tmp_path / folder).mkdir(parents=True)
    made(tmp_path / "lib" / "trunkline" / "data" / "jobs", Started(2))
    (tmp_path / "opt").symlink_to(tmp_path / "opt-0.1.0")
    program = tmp_path / "opt-0.2.0" / "bin" / "trunkline"
    program.write_text(NEW_VERSION.format(python=sys.executable))
    program.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("found", "code", "steps"),
    [
        (0, 0, ["doctor", "backup", "systemctl restart trunkline"]),
        (4, 0, ["doctor", "backup", "systemctl restart trunkline"]),
        (2, 1, ["doctor"]),
        (5, 1, ["doctor"]),
    ],
)
def test_an_upgrade_looks_then_backs_up_then_changes_the_link(
    found: int, code: int, steps: list[str], debug_hub: RunningHub, installed: Path
) -> None:
    script = FILES["upgrade.sh"].replace("8765", str(debug_hub.port))
    for former, new in {"/opt/trunkline": "opt", "/etc/trunkline": "etc", "/var/lib": "lib"}.items():
        assert former in script
        script = script.replace(former, str(installed / new))
    env = {name: value for name, value in os.environ.items() if not name.startswith("TRUNKLINE_")}
    done = subprocess.run(
        ["sh", "-c", UPGRADE + script, "upgrade.sh", "0.2.0"],
        env=env | {"STEPS": str(installed / "steps"), "FOUND": str(found)},
        capture_output=True,
        text=True,
        timeout=START,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert (installed / "steps").read_text().splitlines() == steps
    assert (installed / "opt").readlink().name == ("opt-0.1.0" if code else "opt-0.2.0")
    if not code:
        assert (installed / "opt.before").read_text().strip() == str(installed / "opt-0.1.0")
        assert (installed / "lib" / "trunkline" / "before-0.2.0.tar").exists()
