"""Loads an executor's modules one by one: what cannot be loaded is left out and named, and the others serve."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from trunkline.methods.failures import bounded, typed, words_of
from trunkline.methods.registry import Module, Registry, load_instance
from trunkline_protocol.catalogue import ModuleFailure
from trunkline_protocol.errors import ErrorCode, RpcError

CODES: Final = frozenset({
    ErrorCode.PIPELINE_INITIALIZATION_FAILED, ErrorCode.INVALID_CONFIGURATION, ErrorCode.MISSING_DEPENDENCIES,
})  # fmt: skip
"""The codes of errors for methods of a module that could not be loaded; none is retryable."""

logger = logging.getLogger("trunkline.executor")


async def load_modules(registry: Registry, names: Sequence[str], settings: Mapping[str, Any]) -> list[ModuleFailure]:
    """Import modules, register what they mark, and run their load steps, each in this order.

    Args:
        names: import paths.
        settings: for load steps.

    Returns:
        The modules that failed, whatever they raised, of which nothing is registered. Tracebacks are logged.
    """
    modules: dict[str, Module] = {}
    failed: list[ModuleFailure] = []
    for name in names:
        try:
            modules[name] = registry.add_module(importlib.import_module(name))
        except BaseException as error:  # also what argparse and others raise to end a program
            failed.append(_failure(name, error, []))
    for name, module in modules.items():
        try:
            for instance in module.instances:
                await load_instance(instance, settings)
        except BaseException as error:
            registry.remove(module)
            failed.append(_failure(name, error, module.methods))
    return failed


def load_error(error: BaseException, module: str = "") -> RpcError:
    """The typed error for an exception that loading a module, of this import path, raised."""
    if isinstance(error, RpcError):
        known = typed(error)
        return known if known.code in CODES else RpcError(ErrorCode.PIPELINE_INITIALIZATION_FAILED, words_of(error))
    if isinstance(error, ModuleNotFoundError):
        what_to_do = _where_to_look(module) if _is_part(error.name, module) else "install it or leave the module out"
        return RpcError(ErrorCode.MISSING_DEPENDENCIES, bounded(f"{error}; {what_to_do}"))
    return RpcError(ErrorCode.PIPELINE_INITIALIZATION_FAILED, words_of(error))


def _is_part(missing: str | None, module: str) -> bool:
    """Whether what is missing is the module itself, or a package that it is in, and not something that it imports."""
    return missing is not None and f"{module}.".startswith(f"{missing}.")


def _where_to_look(module: str) -> str:
    if module.endswith(".py"):
        return f"name it as import does: {module.removesuffix('.py').replace('/', '.')}"
    return "modules are looked for in the hub's working directory and on PYTHONPATH"


def _failure(name: str, error: BaseException, methods: list[str]) -> ModuleFailure:
    logger.error("loading %s failed", name, exc_info=error)
    said = load_error(error, name)
    return ModuleFailure(name, said.code, said.message, methods)
