"""Loads an executor's modules one by one: what cannot be loaded is left out and named, and the others serve."""

from __future__ import annotations

import importlib
import logging
import re
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from trunkline.methods.context import Context
from trunkline.methods.declaration import RegistrationError
from trunkline.methods.registry import Module, Registry, load_instance
from trunkline.methods.user_errors import bounded, new_error_id, told, words_of
from trunkline.methods.wire_values import sendable
from trunkline_protocol.catalogue import ModuleFailure
from trunkline_protocol.errors import ErrorCode, RpcError

CODES: Final = frozenset({
    ErrorCode.PIPELINE_INITIALIZATION_FAILED, ErrorCode.INVALID_CONFIGURATION, ErrorCode.MISSING_DEPENDENCIES,
})  # fmt: skip
"""The codes of errors for methods of a module that could not be loaded; none is retryable."""

_OURS: Final = re.compile(
    r"[/\\]trunkline[/\\]methods[/\\](?:binding|declaration|loading|marks|registry)\.py$|^<frozen|^<string>$|[/\\]importlib[/\\]"
)
"""Files whose lines say nothing about a module: what loads it, and Python's import."""

logger = logging.getLogger("trunkline.executor")


async def load_modules(
    registry: Registry, names: Sequence[str], settings: Mapping[str, Any], context: Context | None = None
) -> list[ModuleFailure]:
    """Import modules, register what they mark, and run their load steps, each in this order.

    Args:
        names: import paths.
        settings: for load steps.
        context: the executor's own, for load steps that take one.

    Returns:
        The modules that failed, whatever they raised, of which nothing is registered. Tracebacks are logged.
    """
    texts = bool(settings.get("debug"))
    modules: dict[str, Module] = {}
    failed: list[ModuleFailure] = []
    for name in names:
        try:
            modules[name] = registry.add_module(_import(name))
        except BaseException as error:  # also what argparse and others raise to end a program
            failed.append(_failure(name, error, [], texts=texts))
    for name, module in modules.items():
        try:
            for instance in module.instances:
                await load_instance(instance, settings, context, registry.techniques)
        except BaseException as error:
            registry.remove(module)
            failed.append(_failure(name, error, module.methods, texts=texts))
    return failed


def load_error(error: BaseException, error_id: str, *, texts: bool) -> RpcError:
    """The typed error for an exception that loading a module raised. What says what is wrong with code keeps its text.

    Args:
        error_id: of the exception in the log.
        texts: so do all others.
    """
    if isinstance(error, RpcError):
        known = sendable(error, "a load step")
        return known if known.code in CODES else RpcError(ErrorCode.PIPELINE_INITIALIZATION_FAILED, words_of(error))
    where = _place_of(error)
    if isinstance(error, ModuleNotFoundError):
        return RpcError(ErrorCode.MISSING_DEPENDENCIES, bounded(f"{error}{where}; install it or leave the pack out"))
    texts = texts or isinstance(error, (ImportError, SyntaxError, NameError))
    words = str(error) if isinstance(error, RegistrationError) else told(error, error_id, texts=texts)
    return RpcError(ErrorCode.PIPELINE_INITIALIZATION_FAILED, bounded(f"{words}{where}"))


def _import(name: str) -> ModuleType:
    """The module of this import path.

    Raises:
        RpcError: 4001, it is the name of a file; 4002, there is none.
        BaseException: whatever the module raises.
    """
    if name.endswith(".py") or "/" in name:
        module = name.removeprefix("./").removesuffix(".py").replace("/", ".")
        raise RpcError(ErrorCode.INVALID_CONFIGURATION, f"{name} names a file; name the module: --methods {module}")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise
        known = "modules are looked for in the folder where the hub was started, and among installed packages"
        raise RpcError(ErrorCode.MISSING_DEPENDENCIES, f"there is no module {error.name}; {known}") from None


def _place_of(error: BaseException) -> str:
    """`` (file:line)`` of the last line of a user's own that an error passed, or where its syntax is wrong."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return ""  # its words name the place
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _OURS.search(frame.filename)]
    return f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""


def _files_of(error: BaseException) -> list[str]:
    """The user's own files that an error passed, and that whose syntax is wrong."""
    files = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
    if isinstance(error, SyntaxError) and error.filename is not None:
        files.add(error.filename)
    return sorted(file for file in files if not _OURS.search(file) and Path(file).is_file())


def _failure(name: str, error: BaseException, methods: list[str], *, texts: bool) -> ModuleFailure:
    error_id = new_error_id()
    if not isinstance(error, (RegistrationError, RpcError)):  # those say all there is to say, and the hub logs it
        logger.error("loading %s failed (id %s)", name, error_id, exc_info=error)
    said = load_error(error, error_id, texts=True)
    shown = load_error(error, error_id, texts=texts).message
    return ModuleFailure(name, said.code, said.message, methods, _files_of(error), told=shown)
