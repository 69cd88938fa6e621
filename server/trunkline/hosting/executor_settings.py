"""Turns the settings into groups of executors: what they load and how they are started."""

from __future__ import annotations

import dataclasses
import logging
import os
import resource
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trunkline.config import Settings
from trunkline.executors.environment import SETTING, executor_environment
from trunkline.executors.queueing import DEFAULT_GROUP
from trunkline.executors.specs import ExecutorSpec, GroupSpec
from trunkline.hosting.runtime import ConfigurationError, available_cpus
from trunkline.methods.packs import PACKS, installed_packs, missing_modules
from trunkline.settings.executor_groups import GroupSettings

logger = logging.getLogger("trunkline")


def group_specs(settings: Settings) -> list[GroupSpec]:
    """The groups of executors that the settings ask for; none where there is nothing to serve.

    What ``packs`` and ``methods`` of the hub name and no group has is served by the group ``default``.

    Raises:
        ConfigurationError: a pack is unknown or not installed, or a group cannot work; all problems, each by its path.
    """
    groups = _with_default(settings)
    if problems := list(_problems(groups, settings.groups)):
        raise ConfigurationError("; ".join(problems))
    in_process = settings.executors == 0
    sizes = {name: 1 if in_process else group.size or settings.executors for name, group in groups.items()}
    threads = max(1, available_cpus() // max(1, sum(sizes.values())))
    if groups:
        _say_withheld(settings.executor_env)
    base = ExecutorSpec(
        (),
        settings=pack_settings(settings),
        max_concurrency=settings.max_concurrency,
        threads=threads,
        start_timeout=settings.start_timeout,
        environment=settings.executor_env,
        in_process=in_process,
    )
    return [
        GroupSpec(
            name,
            _executor_spec(group, base),
            sizes[name],
            strategy=group.strategy,
            techniques=frozenset(group.techniques),
            queue_limit=group.queue_limit,
            memory_soft=group.memory_soft,
            memory_hard=group.memory_hard,
            max_requests=group.max_requests,
        )
        for name, group in groups.items()
    ]


def _with_default(settings: Settings) -> dict[str, GroupSettings]:
    """The groups, with that of everything that none of them names, where there is something left."""
    groups = dict(settings.groups)
    default = groups.get(DEFAULT_GROUP, GroupSettings())
    others = [group for name, group in groups.items() if name != DEFAULT_GROUP]
    packs = installed_packs() if settings.packs is None else settings.packs
    left = default.model_copy(
        update={
            "packs": _left(packs, (group.packs for group in others)) if default.packs is None else default.packs,
            "methods": _left(settings.methods, (group.methods for group in others))
            if default.methods is None
            else default.methods,
        }
    )
    if left.packs or left.methods or DEFAULT_GROUP in groups:
        groups[DEFAULT_GROUP] = left
    return groups


def _left(names: Iterable[str], taken: Iterable[tuple[str, ...] | None]) -> tuple[str, ...]:
    others = {name for each in taken for name in each or ()}
    return tuple(name for name in names if name not in others)


def _problems(groups: Mapping[str, GroupSettings], configured: Collection[str]) -> Iterator[str]:
    keyed: list[str] = []
    for name, group in groups.items():
        path = f"groups.{name}." if name in configured else ""
        if not group.packs and not group.methods:
            yield f"{path}packs: the group serves nothing; name packs or methods, or leave the group out"
        for pack in group.packs or ():
            if pack not in PACKS:
                yield f"{path}packs: unknown pack {pack!r}; known are: {', '.join(PACKS)}"
            elif group.python is None and (missing := missing_modules(pack)):
                install = f"pip install 'trunkline[{PACKS[pack].extra}]'"
                yield f"{path}packs: pack {pack} needs {', '.join(missing)}: {install}"
        if group.python is not None and not interpreter(group.python).is_file():
            yield f"{path}python: there is no interpreter {interpreter(group.python)}"
        for limit, value in group.rlimits.items():
            _, own = resource.getrlimit(getattr(resource, f"RLIMIT_{limit.upper()}"))
            if own not in (resource.RLIM_INFINITY, -1) and value > own:
                yield f"{path}rlimits.{limit}: {value} is above {own}, that of the hub's own process"
        keyed += [name for pack in group.packs or () if pack in PACKS and PACKS[pack].keyed]
    if len(keyed) > 1:
        yield (
            f"groups.{keyed[1]}.packs: {' and '.join(f'groups.{name}' for name in keyed)} both have the pack vectors; "
            "one group owns all collections: leave it to one of them"
        )


def interpreter(python: Path) -> Path:
    """The interpreter that a group's ``python`` names: a file, or that of a virtual environment."""
    return python.absolute() / "bin" / "python" if python.is_dir() else python.absolute()


def pack_settings(settings: Settings) -> dict[str, Any]:
    """The settings that packs may read."""
    return {
        "data_dir": str(settings.data.absolute()),
        "documents_root": settings.documents_root,
        "shared_collections": settings.shared_collections,
        "document_seconds": settings.document_seconds,
        "document_megabytes": settings.document_megabytes,
        "is_executor": True,
        "model": settings.model,
        "embedding_backend": settings.embedding_backend,
        "embedding_cache_bytes": settings.embedding_cache_bytes,
        "embedding_cache_seconds": settings.embedding_cache_seconds,
        "cross_encoder": settings.cross_encoder,
        "response_cache_bytes": settings.response_cache_bytes,
        "response_cache_seconds": settings.response_cache_seconds,
        "response_cache_techniques": settings.response_cache_techniques,
        "llm_base_url": settings.llm_base_url,
        "llm_model": settings.llm_model,
        "llm_api_key": settings.llm_api_key.get_secret_value() if settings.llm_api_key else None,
        "llm_params": settings.llm_params,
        "llm_endpoints": [endpoint.for_packs() for endpoint in settings.llm_endpoints],
        "llm_budget": settings.llm_budget,
        "debug": settings.debug,
        "log_level": settings.log_level,
    }


def _executor_spec(group: GroupSettings, base: ExecutorSpec) -> ExecutorSpec:
    methods = group.methods or ()
    return dataclasses.replace(
        base,
        modules=(*(PACKS[name].module for name in group.packs or ()), *methods),
        settings=base.settings | group.settings,
        max_concurrency=group.max_concurrency or base.max_concurrency,
        python_path=(os.getcwd(),) if methods else (),
        rlimits=dict(group.rlimits),
        variables={name: value.get_secret_value() for name, value in group.env.items()},
        python=None if group.python is None else str(interpreter(group.python)),
    )


def _say_withheld(named: tuple[str, ...]) -> None:
    """Log the names of withheld variables: at INFO those that libraries use, such as HF_TOKEN, the rest at DEBUG."""
    _passed, withheld, secrets = executor_environment(os.environ, named)
    if secrets:
        logger.info(
            "variables that look like secrets are not passed to executors; name in %s those that methods need",
            SETTING,
            extra={"withheld": secrets},
        )
    if withheld:
        logger.debug(
            "variables are not passed to executors; name in %s those that methods need",
            SETTING,
            extra={"withheld": withheld},
        )
