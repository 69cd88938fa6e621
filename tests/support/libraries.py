"""Libraries that tests need and not everybody has."""

from __future__ import annotations

import importlib.util

import pytest


def skip_without(*names: str) -> None:
    """Skip a file of tests where one of these is not installed; without importing any.

    Each of the tests' processes reads every file, whichever tests it runs, and some libraries take half a second.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed", allow_module_level=True)
