"""Params and results of the methods by which a running hub is configured. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

Config = Annotated[dict[str, Any], Meta(description="settings by name, as in the TOML file")]


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong: where, and what to do. Values are not repeated: they may be secrets."""

    path: Annotated[str, Meta(description="names joined by dots; empty where it concerns the whole")]
    message: str


class ConfigParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``config.validate`` and ``config.update``."""

    config: Config


class SettingReport(msgspec.Struct, frozen=True):
    """A setting of the hub; a secret that is set has the value ``"***"``."""

    value: Any
    source: Literal["default", "file", "environment", "command line", "update"]
    live: Annotated[bool, Meta(description="whether it can change while the hub runs")]


class ConfigReport(msgspec.Struct, frozen=True):
    """Result of ``config.get``: ``file`` is the TOML file that was read, null where there is none."""

    file: str | None
    settings: dict[str, SettingReport]


class ValidationResult(msgspec.Struct, frozen=True):
    """Result of ``config.validate``: all errors at once; ``needs_restart`` names what a running hub cannot change."""

    valid: bool
    errors: list[Problem]
    needs_restart: list[str]


class ConfigChanged(msgspec.Struct, frozen=True):
    """Result of ``config.update`` and ``config.reload``: the settings that have another value now.

    ``persisted`` is false: nothing is written to the file, and what was updated lasts until the hub ends or the file is
    reloaded.
    """

    changed: list[str]
    persisted: bool = False


# --- pipelines ---

MAX_TECHNIQUE_CHARS = 64


class PipelineInitializeParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``pipeline.initialize``."""

    technique: Annotated[str, Meta(min_length=1, max_length=MAX_TECHNIQUE_CHARS)]
    config: Annotated[
        dict[str, Any], Meta(description="options, technique_params and others, as rag.execute has them")
    ] = {}


class PipelineParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``pipeline.get`` and ``pipeline.destroy``."""

    pipeline_id: str


class Pipeline(msgspec.Struct, frozen=True):
    """Result of ``pipeline.get``: a technique with its configuration, checked when it was made."""

    pipeline_id: str
    technique: str
    config: dict[str, Any]
    principal: str
    tenant: str
    created_at: int


class DestroyedPipeline(msgspec.Struct, frozen=True):
    """Result of ``pipeline.destroy``."""

    pipeline_id: str
    destroyed: bool


# --- caches ---

CACHES: Final = ("all", "embeddings", "responses", "pipelines")
"""Names that ``cache.clear`` always takes; packs may have caches of further names."""


class ClearCacheParams(msgspec.Struct, forbid_unknown_fields=True):
    """Params of ``cache.clear``."""

    cache_type: Annotated[
        str, Meta(min_length=1, max_length=64, description="all, embeddings, responses, pipelines, or a pack's own")
    ] = "all"


class ClearedCache(msgspec.Struct, frozen=True):
    """How much was in a cache, of all executors together."""

    entries: int
    bytes: int


class ClearedCaches(msgspec.Struct, frozen=True):
    """Result of ``cache.clear``: the number of executors that have done it, and what was in each cache."""

    cache_type: str
    executors: int
    cleared: dict[str, ClearedCache]
