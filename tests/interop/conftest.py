"""What these tests share: a hub and projects with its client, and what those of methods have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.fresh import TOKEN, project
from tests.interop.node import MODULES
from tests.support.hub import RunningHub, ready_hub
from tests.support.tiny_model import tiny_model

__all__ = ["tiny_model"]


@pytest.fixture(scope="session")
def runtimes_hub() -> Iterator[RunningHub]:
    """A hub that wants a token, and takes pages from any port of this machine."""
    with ready_hub(env={"TRUNKLINE_TOKEN": TOKEN, "TRUNKLINE_ALLOWED_ORIGINS": "loopback"}) as hub:
        yield hub


@pytest.fixture(scope="session")
def bare_project(runtimes_hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has the client, and no other package."""
    return project(tmp_path_factory.mktemp("bare") / "project", runtimes_hub)


@pytest.fixture(scope="session")
def ws_project(runtimes_hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has the client and the package ws."""
    return project(tmp_path_factory.mktemp("ws") / "project", runtimes_hub, "--install-links", str(MODULES / "ws"))
