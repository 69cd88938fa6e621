"""The techniques that an executor can run, each with all that its ``technique_params`` may have."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from types import ModuleType
from typing import Final

from pydantic import BaseModel, ConfigDict

from trunkline import ErrorCode, RpcError
from trunkline.methods.rag.retrieval import BasicParams
from trunkline.methods.rag.searching import Services
from trunkline.methods.techniques import Technique, Techniques

ENTRY_POINTS: Final = "trunkline.techniques"
"""The group of entry points, each a module with techniques, that installed packages declare."""

logger = logging.getLogger("trunkline.rag")


class KnownTechniques(Mapping[str, tuple[Technique, type[BasicParams]]]):
    """Techniques by name: those of the executor's modules, and of packages that are installed.

    Args:
        techniques: those of the executor's modules; of what is added later, too.
        services: what there is beside searches.
    """

    def __init__(self, techniques: Techniques, services: Services) -> None:
        self.services = services
        self._techniques = techniques
        self._models: dict[type[BaseModel], type[BasicParams]] = {}
        self._broken: dict[str, str] = {}

    def load_installed(self) -> None:
        """Import the modules that installed packages name. One that fails is logged, and told to who asks for it."""
        for point in entry_points(group=ENTRY_POINTS):
            try:
                module = point.load()
                if not isinstance(module, ModuleType):
                    raise TypeError(f"{point.value} is no module")
                self._techniques.add_module(module)
            except BaseException as error:  # also what argparse and others raise to end a program
                self._broken[point.name] = f"{point.value} cannot be loaded: {type(error).__name__}"
                logger.error("entry point %s of %s: %s cannot be loaded", point.name, ENTRY_POINTS, point.value,
                             exc_info=error)  # fmt: skip

    def __getitem__(self, name: str) -> tuple[Technique, type[BasicParams]]:
        found = self._techniques[name]
        return found, self._model(found)

    def __iter__(self) -> Iterator[str]:
        return iter(self._techniques)

    def __len__(self) -> int:
        return len(self._techniques)

    def problem(self, name: str) -> RpcError | None:
        """Why a technique cannot be run: there is none of that name (3001), or something is not set (4001)."""
        if name in self._broken:
            return RpcError(ErrorCode.PIPELINE_INITIALIZATION_FAILED, f"technique {name}: {self._broken[name]}")
        if name not in self._techniques:
            words = f"no technique {name!r:.80}; there are: {', '.join(sorted(self))}"
            return RpcError(ErrorCode.PIPELINE_NOT_FOUND, words, maybe_executed=False)
        found = self._techniques[name]
        if twice := sorted(_own_fields(found.params) & BasicParams.model_fields.keys()):
            words = f"technique {name}: {', '.join(twice)} means something else in every technique; rename it"
            return RpcError(ErrorCode.PIPELINE_INITIALIZATION_FAILED, words)
        if missing := self.services.missing(found.needs):
            words = f"technique {name} needs {' and '.join(missing)}"
            return RpcError(ErrorCode.INVALID_CONFIGURATION, words, maybe_executed=False)
        return None

    def _model(self, found: Technique) -> type[BasicParams]:
        if issubclass(found.params, BasicParams):
            return found.params
        model = self._models.get(found.params)
        if model is None:
            both = type(
                found.params.__name__, (found.params, BasicParams), {"model_config": ConfigDict(extra="forbid")}
            )
            model = self._models[found.params] = both
        return model


def _own_fields(params: type[BaseModel]) -> set[str]:
    return set() if issubclass(params, BasicParams) else set(params.model_fields)
