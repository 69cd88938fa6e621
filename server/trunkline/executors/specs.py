"""How executors are started, and how many there are in each group: data that starts nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trunkline import defaults
from trunkline.defaults import Strategy


@dataclass(frozen=True, slots=True)
class ExecutorSpec:
    """How executor processes are started.

    Attributes:
        modules: import paths of the method modules, in order.
        settings: the settings that method packs may read (JSON), for example ``data_dir`` and ``model``.
        max_concurrency: how many coroutine methods one executor runs at once.
        threads: how many threads numeric libraries may use in one executor.
        start_timeout: seconds until READY, including the loading of models.
        python_path: folders that modules are searched in first.
        environment: patterns of further variables that executors get; see :mod:`trunkline.executors.environment`.
        variables: more variables, with their values.
        rlimits: limits of the kernel by their names in setrlimit(2), such as ``nofile``.
        python: the interpreter; None for the hub's own.
        in_process: run methods in the hub's own process; see :mod:`trunkline.executors.in_process`.
    """

    modules: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    threads: int = 1
    max_concurrency: int = defaults.MAX_CONCURRENCY
    start_timeout: float = defaults.START_TIMEOUT
    python_path: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    rlimits: Mapping[str, int] = field(default_factory=dict)
    python: str | None = None
    in_process: bool = False


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """A group, as configured.

    Attributes:
        executor: how its executors are started.
        size: how many there are.
        techniques: those that are bound to this group; see :class:`.groups.Route`.
        queue_limit: calls that may wait for it; None for no limit of its own.
        memory_soft, memory_hard: resident bytes from which an executor is replaced, or killed; None for no limit.
        max_requests: calls after which an executor is replaced, or a little earlier; None for no limit.
    """

    name: str
    executor: ExecutorSpec
    size: int
    strategy: Strategy = "performance_based"
    techniques: frozenset[str] = frozenset()
    queue_limit: int | None = None
    memory_soft: int | None = None
    memory_hard: int | None = None
    max_requests: int | None = None
