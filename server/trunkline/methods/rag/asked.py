"""Pipelines: a technique and its config, checked as a whole, and laid under what a call gives."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError, WithJsonSchema

from trunkline import ErrorCode, RpcError
from trunkline.methods.caching import Cleared
from trunkline.methods.rag.known import KnownTechniques
from trunkline.methods.rag.retrieval import BasicParams, HybridParams, RagOptions

MAX_KNOWN: Final = 256
"""Pipelines whose parsed config an executor keeps."""


class DescribedAs:
    """Has ``rpc.discover`` tell a model of what is checked later, with errors of its own.

    Args:
        model: what the value has to be in the end.
    """

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model

    def __get_pydantic_json_schema__(self, _schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return handler(self._model.__pydantic_core_schema__)


GivenTechnique = Annotated[str, WithJsonSchema({"enum": ["basic", "hybrid", "extractive"]})]
GivenParams = Annotated[dict[str, Any], DescribedAs(HybridParams)]


class PipelineConfig(BaseModel):
    """The ``config`` of ``pipeline.initialize``: members of ``rag.execute`` of the same names."""

    model_config = ConfigDict(extra="forbid")

    options: RagOptions | None = None
    technique_params: GivenParams | None = None
    fallback: GivenTechnique | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call of ``rag.*`` gives, or a pipeline; None where it leaves that open."""

    technique: str | None = None
    options: RagOptions | None = None
    technique_params: dict[str, Any] | None = None
    fallback: str | None = None

    def over(self, pipeline: Asked) -> Asked:
        """What is given here, and from the pipeline what is not."""
        options = pipeline.options or RagOptions()
        if self.options is not None:
            given = {name: getattr(self.options, name) for name in self.options.model_fields_set}
            options = options.model_copy(update=given)
        params = (pipeline.technique_params or {}) | (self.technique_params or {})
        return Asked(pipeline.technique, options, params, self.fallback or pipeline.fallback)

    def fallen_back(self, model: type[BasicParams]) -> Asked:
        """The same with the fallback, and those of the params that it knows."""
        params = {name: value for name, value in (self.technique_params or {}).items() if name in model.model_fields}
        return Asked(self.fallback, self.options, params)


class KnownPipelines:
    """Parsed pipelines by id. An id is of one pipeline for ever, so that what is kept cannot be outdated."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Asked] = OrderedDict()

    def parsed(self, pipeline: Mapping[str, Any], techniques: KnownTechniques) -> Asked:
        """What a pipeline gives, from the result of ``pipeline.get``."""
        pipeline_id = pipeline["pipeline_id"]
        known = self._known.get(pipeline_id)
        if known is None:
            known = self._known[pipeline_id] = checked(pipeline["technique"], pipeline["config"], techniques)
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        self._known.move_to_end(pipeline_id)
        return known

    def clear(self) -> Cleared:
        """Forget all: they are parsed again when they are used."""
        cleared = Cleared(entries=len(self._known), bytes=0)
        self._known.clear()
        return cleared


def checked(technique: str, config: dict[str, Any], techniques: KnownTechniques) -> Asked:
    """A technique and its config, checked.

    Raises:
        RpcError: 4001; ``data.errors`` has all that is wrong, ``{path, message}`` each.
    """
    wrong: list[tuple[str, str]] = []
    if (problem := techniques.problem(technique)) is not None:
        wrong.append(("technique", problem.message))
    parsed = PipelineConfig()
    try:
        parsed = PipelineConfig.model_validate(config)
    except ValidationError as error:
        wrong += problems_of(error)
    params = config.get("technique_params")
    if problem is None and isinstance(params, dict):
        try:
            techniques[technique][1].model_validate(params)
        except ValidationError as error:
            wrong += problems_of(error, "technique_params")
    if parsed.fallback is not None and (problem := techniques.problem(parsed.fallback)) is not None:
        wrong.append(("fallback", problem.message))
    if wrong:
        words = "; ".join(f"{path}: {message}" for path, message in wrong)
        errors = [{"path": path, "message": message} for path, message in wrong]
        raise RpcError(ErrorCode.INVALID_CONFIGURATION, f"pipeline: {words}", data={"errors": errors})
    return Asked(technique, parsed.options, parsed.technique_params, parsed.fallback)


def problems_of(error: ValidationError, *above: str) -> list[tuple[str, str]]:
    """Path and message of each problem, without values."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [(".".join(map(str, (*above, *item["loc"]))), str(item["msg"])) for item in found]
