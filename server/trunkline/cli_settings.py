"""The settings of a hub, read for a command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trunkline.cli_talk import EXIT_USAGE, fail

if TYPE_CHECKING:
    from trunkline.config import Settings


def read_settings(config: Path | None, **options: Any) -> Settings:
    """Settings of a hub; ends the program where they cannot be."""
    from pydantic import ValidationError

    from trunkline.config import load_settings

    try:
        return load_settings(config, **options)
    except ValidationError as error:
        fail(
            EXIT_USAGE,
            *(_setting_problem(item) for item in error.errors(include_url=False, include_input=False)),
        )
    except (FileNotFoundError, ValueError) as error:
        fail(EXIT_USAGE, str(error))


def _setting_problem(item: Any) -> str:
    name = ".".join(map(str, item["loc"]))
    return f"{name}: {item['msg']}" if name else str(item["msg"]).removeprefix("Value error, ")
