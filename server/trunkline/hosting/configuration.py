"""``config.*``: the settings of the running hub, and changes of those that are live (``LIVE`` in config.py)."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any, Final

import msgspec

from trunkline.config import LIVE_SETTINGS, Settings
from trunkline.hosting.app import HubParts
from trunkline.hosting.live import apply
from trunkline.hub.connection import ClientCall
from trunkline.hub.dispatch import Handlers, replying
from trunkline.observe.secrets import MASK, Redaction, SecretMask
from trunkline.settings.naming import SettingsError
from trunkline_protocol.administration import (
    ConfigChanged,
    ConfigParams,
    ConfigReport,
    Problem,
    SettingReport,
    ValidationResult,
)
from trunkline_protocol.calls import Call
from trunkline_protocol.errors import ErrorCode, RpcError
from trunkline_protocol.hub_methods import CONFIG_GET, CONFIG_RELOAD, CONFIG_UPDATE, CONFIG_VALIDATE
from trunkline_protocol.reports import NoParams

NEEDS_RESTART: Final = "cannot change while the hub runs: set it in the file or environment, and restart the hub"

logger = logging.getLogger("trunkline")


class Configuration:
    """Answers ``config.get``, ``config.validate``, ``config.update`` and ``config.reload``.

    A change is checked as a whole before anything is changed, and refused as a whole where one setting is not valid or
    not live.
    """

    def __init__(self, parts: HubParts) -> None:
        self._parts = parts

    def methods(self) -> Handlers:
        """The handlers."""
        return (
            replying(CONFIG_GET, lambda _call, _params: report(self._parts.settings))
            | replying(CONFIG_VALIDATE, self._validate)
            | replying(CONFIG_UPDATE, self._update)
            | replying(CONFIG_RELOAD, self._reload)
        )

    def reload(self) -> list[str]:
        """Read the file again; the names of the settings that were changed.

        Raises:
            RpcError: 4001, with all errors by path; nothing is changed.
        """
        return self._become(_read_again(self._parts.settings))

    def _validate(self, _call: Call, params: ConfigParams) -> ValidationResult:
        present = self._parts.settings
        changed, problems = checked(present, params.config)
        if changed is None:
            return ValidationResult(False, problems, _fixed(params.config.keys() & Settings.model_fields.keys()))
        return ValidationResult(True, [], _fixed(differing(present, changed)))

    def _update(self, call: Call, params: ConfigParams) -> ConfigChanged:
        changed, problems = checked(self._parts.settings, params.config)
        if changed is None:
            raise _refusal(call.method, problems)
        return self._audited(call, self._become(changed))

    def _reload(self, call: Call, _params: NoParams) -> ConfigChanged:
        return self._audited(call, self.reload())

    def _audited(self, call: Call, names: list[str]) -> ConfigChanged:
        caller, audit = call.caller(), self._parts.audit
        if audit is not None:
            who = call.origin()
            connection = who.connection.number if isinstance(who, ClientCall) else 0
            name, tenant = ("", "") if caller is None else (caller.name, caller.tenant)
            about = {"method": call.method, "changed": ",".join(names), "request_id": call.request_id()}
            audit.event("config", principal=name, tenant=tenant, connection=connection, **about)
        return ConfigChanged(names)

    def _become(self, settings: Settings) -> list[str]:
        """Change to other settings, or to none of them."""
        present = self._parts.settings
        names = differing(present, settings)
        if fixed := _fixed(names):
            raise _refusal("the settings were not changed", [Problem(name, NEEDS_RESTART) for name in fixed])
        try:
            apply(self._parts, settings)
        except BaseException:
            apply(self._parts, present)
            raise
        logger.info("settings changed", extra={"settings": names})
        return names


def report(settings: Settings) -> ConfigReport:
    """All settings with their values, secrets masked, and sources."""
    values = settings.model_dump(mode="json")
    redact = Redaction(SecretMask(settings.secrets))
    secret = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    said = {
        name: SettingReport(
            MASK if name in secret and values[name] is not None else redact(_without_user(values[name])),
            settings.origins.get(name, "default"),
            name in LIVE_SETTINGS,
        )
        for name in Settings.model_fields
    }
    return ConfigReport(None if settings.file is None else str(settings.file), said)


def checked(present: Settings, changes: dict[str, Any]) -> tuple[Settings | None, list[Problem]]:
    """The present settings with some changed, or None and all that is wrong with them."""
    try:
        return present.with_changes(changes), []
    except SettingsError as error:
        return None, _problems(error)


def differing(one: Settings, other: Settings) -> list[str]:
    """The names of the settings whose values differ."""
    return sorted(name for name in Settings.model_fields if getattr(one, name) != getattr(other, name))


def _fixed(names: Collection[str]) -> list[str]:
    return sorted(set(names) - LIVE_SETTINGS)


def _without_user(value: Any) -> Any:
    """A URL without the user and password that it may have."""
    if not isinstance(value, str) or "://" not in value or "@" not in value:
        return value
    scheme, _, rest = value.partition("://")
    return f"{scheme}://{MASK}@{rest.rpartition('@')[2]}"


def _read_again(present: Settings) -> Settings:
    try:
        return present.read_again()
    except SettingsError as error:
        problems = _problems(error)
    except (OSError, ValueError) as error:
        problems = [Problem("", f"{present.file}: {error}")]
    raise _refusal("the settings were not reloaded", problems)


def _problems(error: SettingsError) -> list[Problem]:
    return [Problem(path, words) for path, words in error.errors]


def _refusal(what: str, problems: list[Problem]) -> RpcError:
    words = "; ".join(f"{each.path}: {each.message}" if each.path else each.message for each in problems)
    return RpcError(ErrorCode.INVALID_CONFIGURATION, f"{what}: {words}", data={"errors": msgspec.to_builtins(problems)})
