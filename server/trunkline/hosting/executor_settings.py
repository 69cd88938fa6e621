"""Turns the settings into what executors load and how they are started."""

from __future__ import annotations

import logging
import os

from trunkline.config import Settings
from trunkline.executors.environment import SETTING, executor_environment
from trunkline.executors.supervisor import ExecutorSpec
from trunkline.hosting.runtime import ConfigurationError, available_cpus
from trunkline.methods.packs import PACKS, installed_packs, missing_modules

logger = logging.getLogger("trunkline")


def pack_modules(settings: Settings) -> tuple[str, ...]:
    """The modules that executors import: those of packs, then the user's own.

    Raises:
        ConfigurationError: a pack is unknown or not installed.
    """
    names = installed_packs() if settings.packs is None else settings.packs
    for name in names:
        if name not in PACKS:
            raise ConfigurationError(f"unknown pack {name!r}; known are: {', '.join(PACKS)}")
        if missing := missing_modules(name):
            raise ConfigurationError(
                f"pack {name} needs {', '.join(missing)}: pip install 'trunkline[{PACKS[name].extra}]'"
            )
    return (*(PACKS[name].module for name in names), *settings.methods)


def executor_spec(settings: Settings, modules: tuple[str, ...]) -> ExecutorSpec:
    """The specification that each executor is started with.

    Args:
        modules: what executors import; see :func:`pack_modules`.
    """
    _say_withheld(settings.executor_env)
    return ExecutorSpec(
        modules=modules,
        settings={
            "data_dir": str(settings.data.absolute()),
            "documents_root": settings.documents_root,
            "document_seconds": settings.document_seconds,
            "is_executor": True,
            "model": settings.model,
            "embedding_backend": settings.embedding_backend,
            "embedding_cache_bytes": settings.embedding_cache_bytes,
            "embedding_cache_seconds": settings.embedding_cache_seconds,
            "response_cache_bytes": settings.response_cache_bytes,
            "response_cache_seconds": settings.response_cache_seconds,
            "response_cache_techniques": settings.response_cache_techniques,
            "llm_base_url": settings.llm_base_url,
            "llm_model": settings.llm_model,
            "llm_api_key": settings.llm_api_key.get_secret_value() if settings.llm_api_key else None,
            "debug": settings.debug,
            "log_level": settings.log_level,
        },
        max_concurrency=settings.max_concurrency,
        threads=max(1, available_cpus() // settings.executors),
        start_timeout=settings.start_timeout,
        python_path=(os.getcwd(),) if settings.methods else (),
        environment=settings.executor_env,
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
