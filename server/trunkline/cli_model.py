"""``trunkline convert-model``: the embedding model converted for OpenVINO, before a hub needs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Protocol

import typer

from trunkline_protocol.errors import RpcError

if TYPE_CHECKING:
    from trunkline.config import Settings


class Fail(Protocol):
    """How the command line ends a program that failed."""

    def __call__(self, code: int, *lines: str) -> NoReturn:
        """Say what went wrong on stderr and exit with the code."""


def convert_model_command(settings_of: Callable[..., Settings], fail: Fail, *, failed: int) -> Callable[..., None]:
    """The command, made of what the command line has for all of them.

    Args:
        settings_of: reads the settings, and ends the program where they cannot be.
        failed: exit code for a model that cannot be converted.
    """

    def convert_model(
        config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
        data: Annotated[Path | None, typer.Option(help="Data folder of the hub.  [default: ./data]")] = None,
        int8: Annotated[
            bool, typer.Option("--int8", help="Quantise it, for TRUNKLINE_EMBEDDING_BACKEND=openvino-int8.")
        ] = False,
    ) -> None:
        """Convert the embedding model for OpenVINO, which computes it several times quicker on a CPU."""
        from trunkline.methods.embeddings.model import Backend, load_model

        overrides: dict[str, Any] = {"data": data}
        settings = settings_of(config, **overrides)
        backend: Backend = "openvino-int8" if int8 else "openvino"
        try:
            model = load_model(settings.model, backend, str(settings.data.absolute()))
        except RpcError as error:
            fail(failed, error.message)
        typer.echo(f"{model.name} is ready in {settings.data / 'models'}")
        if int8:
            typer.echo(
                "hubs use it with TRUNKLINE_EMBEDDING_BACKEND=openvino-int8; collections made with another model have "
                "to be made again"
            )
        else:
            typer.echo("hubs with this data folder use it from their next start on")

    return convert_model
