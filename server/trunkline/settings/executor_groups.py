"""The settings of one group of executors: ``[groups.<name>]`` in the configuration file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    model_validator,
)

from trunkline.defaults import Strategy


def _group_name(name: str) -> str:
    if name == "executor" or not re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", name):
        raise ValueError(
            "a group's name is a small letter and then small letters, digits, - and _, 32 at most; executor is taken"
        )
    return name


GroupName = Annotated[str, AfterValidator(_group_name)]
"""Executors are named after it, such as ``gpu-0``; ``executor`` is how those of the group ``default`` are named."""

Name = Annotated[str, StringConstraints(min_length=1)]

NonNegativeByteSize = Annotated[ByteSize, Field(ge=0)]

RLIMITS: Final = ("as", "core", "cpu", "data", "fsize", "memlock", "nofile", "nproc", "stack")
"""Limits of the kernel that an executor can be started with; see setrlimit(2)."""


def _rlimit(name: str) -> str:
    if name not in RLIMITS:
        raise ValueError(f"there is no limit {name!r:.50}; there are: {', '.join(RLIMITS)}")
    return name


def default_executors() -> int:
    """Half the cores; at least two, so that one stuck method never stops all; at most four, for each loads models."""
    return max(2, min(4, (os.cpu_count() or 2) // 2))


class GroupSettings(BaseModel):
    """What can be set for a group. What is left out is as for the hub as a whole."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    packs: tuple[Name, ...] | None = Field(None, description="method packs")
    methods: tuple[Name, ...] | None = Field(None, description="modules with @method functions")
    techniques: tuple[Name, ...] = Field((), description="techniques whose calls go to groups that list them")
    size: int | None = Field(None, ge=1, le=256, description="executors; unset = TRUNKLINE_EXECUTORS")
    strategy: Strategy = Field("performance_based", description="how the executor of a call is chosen")
    env: dict[Name, SecretStr] = Field(
        default_factory=dict, description="variables of the environment, with their values"
    )
    python: Path | None = Field(
        None, description="interpreter, or folder of a virtual environment, with trunkline in it"
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="what load gets beside the hub's settings")
    max_concurrency: int | None = Field(None, ge=1, description="coroutine methods that one executor runs at once")
    queue_limit: int | None = Field(None, ge=0, description="calls queued for this group")
    memory_soft: ByteSize | None = Field(
        None, description="memory, with its children, from which an executor is replaced"
    )
    memory_hard: ByteSize | None = Field(
        None, description="memory, with its children, from which an executor is killed"
    )
    max_requests: int | None = Field(None, ge=1, description="calls after which an executor is replaced")
    rlimits: dict[Annotated[str, AfterValidator(_rlimit)], NonNegativeByteSize] = Field(
        default_factory=dict, description="limits of the kernel for each executor, by the names of setrlimit(2)"
    )

    @model_validator(mode="after")
    def _soft_before_hard(self) -> GroupSettings:
        if self.memory_soft is not None and self.memory_hard is not None and self.memory_soft >= self.memory_hard:
            raise ValueError("memory_soft is not below memory_hard: an executor would be killed, never replaced")
        return self


Groups = dict[GroupName, GroupSettings]
"""The groups by name, in the order of the file."""
