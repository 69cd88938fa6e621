"""The mock hub holds every dialogue and every script of protocol/conformance, as a hub of its own process does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.protocol import test_conformance as dialogues
from tests.protocol import test_conformance_scripts as scripts
from tests.support.modules import lab
from trunkline.methods import debug
from trunkline.testing import MockHub


@pytest.fixture(scope="module")
def mock() -> Iterator[MockHub]:
    with MockHub(debug, lab) as started:
        yield started


@pytest.mark.parametrize("case", dialogues.CASES, ids=[case["name"] for case in dialogues.CASES])
async def test_dialogue(case: dict[str, Any], mock: MockHub) -> None:
    await dialogues.hold(case, mock.url)


@pytest.mark.parametrize("case", scripts.CASES, ids=[f"{case['section']}: {case['name']}" for case in scripts.CASES])
async def test_script(case: dict[str, Any], mock: MockHub) -> None:
    await scripts.play(case, mock.url)
