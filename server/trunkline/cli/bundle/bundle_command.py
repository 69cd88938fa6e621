"""Gathers a bundle and writes it: ``trunkline doctor --bundle FILE``."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from trunkline.cli.bundle import here
from trunkline.cli.bundle.asking import hub_parts
from trunkline.cli.bundle.parts import Part, archive, in_thread, manifest, now, part
from trunkline.cli.bundle.redaction import redacted
from trunkline.cli.checks import Check
from trunkline.cli.collections import FileProblem, written
from trunkline.cli.doctor import HUBS_IS_NOT_KNOWN, hub_check, hub_data, local_checks
from trunkline.cli.talk import EXIT_FAILED, EXIT_USAGE, fail
from trunkline.observe.secrets import SecretMask, secrets_of

if TYPE_CHECKING:
    from trunkline.config import Settings

NAMED_HERE: Final = "named by this shell's settings; the hub has not said which it has"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a bundle is to be: of which hub, with which settings, within how many seconds a part."""

    url: str
    token: str | None
    config: Path | None
    seconds: float
    redact: bool


def write_bundle(file: str, wish: Wish, *, force: bool) -> None:
    """Write a bundle, and tell on stderr what is missing in it; ends the command where it cannot be written."""
    if file == "-" and sys.stdout.isatty():
        fail(EXIT_USAGE, "standard output is a terminal: give --bundle a file")
    if file != "-" and not force and os.path.lexists(file):
        fail(EXIT_USAGE, f"{file} exists: --force replaces it")
    data, parts = asyncio.run(gathered(wish))
    try:
        with written(file, replace=force) as output:
            output.write(data)
    except FileProblem as problem:
        fail(EXIT_FAILED, str(problem))
    missing = [each for each in parts if each.error is not None]
    print(
        f"{'bundle' if file == '-' else file}: {len(parts) - len(missing)} parts, {len(data):,} bytes", file=sys.stderr
    )
    for line in causes(missing):
        print(f"missing: {line}", file=sys.stderr)
    sys.stdout.flush()


def causes(missing: Sequence[Part]) -> list[str]:
    """A line for each cause: the names of the parts that it keeps away, and it."""
    names: dict[str, list[str]] = {}
    for each in missing:
        names.setdefault(each.error or "", []).append(each.name)
    return [f"{', '.join(parts)}: {cause}" for cause, parts in names.items()]


async def gathered(wish: Wish) -> tuple[bytes, list[Part]]:
    """The archive, and its parts."""
    made_at = now()
    seconds = wish.seconds

    def local(name: str, make: Callable[[], Any]) -> asyncio.Future[Part]:
        return asyncio.ensure_future(part(name, lambda: in_thread(make), seconds))

    beside = [
        local("versions.json", here.versions),
        local("limits.json", here.limits),
        local("processes.json", lambda: here.processes(wish.url)),
        local("settings_here.json", lambda: msgspec.to_builtins(_settings_here(wish.config))),
    ]
    said = await hub_parts(wish.url, wish.token, seconds)
    around = list(await asyncio.gather(*beside))
    known = {each.name: each.content for each in (*said, *around) if each.error is None}
    hubs = hub_data(known.get("settings.json"), known.get("metrics.txt"))
    checks = local("checks.json", lambda: local_checks(wish.config, hubs))
    folder = await local("data_folder.json", lambda: here.data_folder(*_data_folder(known)))
    cleaned, clean = redacted([*said, *around, folder], SecretMask(_secrets(wish)), everything=wish.redact)
    cleaned = [*_checks(await checks, cleaned, wish.url, clean), *cleaned]
    listed = manifest(cleaned, clean(wish.url), made_at, redacted=wish.redact)
    return archive(cleaned, listed), cleaned


def _checks(local: Part, cleaned: list[Part], url: str, clean: Callable[[str], str]) -> list[Part]:
    """The checks as data and as text; that of the hub is made of what it said, without what is taken out."""
    if local.error is not None:
        return [local, Part("checks.txt", error=local.error, at=local.at)]
    health = next(each for each in cleaned if each.name == "health.json")
    checks: list[Check] = [*local.content, hub_check(url, health.content, health.error)]
    said = [{"name": each.name, "state": each.state, "detail": clean(each.detail)} for each in checks]
    text = "".join(f"{each['state']:<8} {each['name']}: {each['detail']}\n" for each in said)
    return [Part("checks.json", said, None, local.at, local.seconds), Part("checks.txt", text, None, local.at)]


def _settings_here(config: Path | None) -> Any:
    from trunkline.config import load_settings
    from trunkline.hosting.configuration import report

    return report(load_settings(config))


def _data_folder(known: dict[str, Any]) -> tuple[Path, int | None, str]:
    """The data folder, its warning limit, and whose it is: as the hub has it, else as the settings here would have it.

    Raises:
        LookupError: neither tells it.
    """
    report = known.get("settings.json") or known.get("settings_here.json")
    if report is None:
        raise LookupError("neither the hub nor the settings here say where the data folder is")
    settings, running = report["settings"], known.get("processes.json")
    base = Path(running[0].get("cwd", "") if running else "") if running is not None else Path.cwd()
    is_default = settings["data"]["source"] == "default"
    whose = "named by the hub" if "settings.json" in known else HUBS_IS_NOT_KNOWN if is_default else NAMED_HERE
    return (base / settings["data"]["value"]).absolute(), settings["disk_warning_bytes"]["value"], whose


def _secrets(wish: Wish) -> list[str]:
    known = secrets_of(os.environ) + ([] if wish.token is None else [wish.token])
    settings = _loaded(wish.config)
    if settings is None:
        return known
    for group in settings.groups.values():
        known += secrets_of({name: value.get_secret_value() for name, value in group.env.items()})
    return known + settings.secrets


def _loaded(config: Path | None) -> Settings | None:
    from trunkline.config import load_settings

    try:
        return load_settings(config)
    except (ValueError, OSError):  # settings_here.json says why
        return None
