"""Packages of PyPI that only these tests use."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest


def library(name: str) -> Any:
    """Import one. A missing one is skipped here, and a failure where everything has to be there."""
    return importlib.import_module(name) if os.environ.get("CI") == "true" else pytest.importorskip(name)
