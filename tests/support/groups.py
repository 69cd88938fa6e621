"""The groups of pools without a hub around them."""

from __future__ import annotations

from trunkline.executors.queueing import DEFAULT_GROUP
from trunkline.executors.specs import ExecutorSpec, GroupSpec


def one_group(size: int, executor: ExecutorSpec) -> list[GroupSpec]:
    """One group of executors that are all alike."""
    return [GroupSpec(DEFAULT_GROUP, executor, size)]
