"""Reads the settings of a hub for a command, and exits where they are not valid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trunkline.cli.talk import EXIT_USAGE, fail

if TYPE_CHECKING:
    from trunkline.config import Settings


def read_settings(config: Path | None, **options: Any) -> Settings:
    """The settings of a hub, from file, environment and options; exits where they are not valid."""
    from trunkline.config import load_settings
    from trunkline.settings.naming import SettingsError

    try:
        return load_settings(config, **options)
    except SettingsError as error:
        fail(EXIT_USAGE, *error.problems)
    except OSError as error:
        fail(EXIT_USAGE, str(error))
    except ValueError as error:  # the file is not TOML
        fail(EXIT_USAGE, f"{config}: {error}")
