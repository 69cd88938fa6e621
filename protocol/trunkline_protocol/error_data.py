"""What ``error.data`` has beside what every error has, by code. All members are there only where they say something.

Clients are told by these which members they may look for; errors themselves are made where they happen.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from trunkline_protocol.errors import ErrorCode, Recovery
from trunkline_protocol.json_schema import Schema


class ErrorData(msgspec.Struct):
    """What ``error.data`` has in every error of the hub."""

    type: str
    recovery: Recovery
    retryable: bool
    maybe_executed: bool
    retry_after_ms: int | UnsetType = UNSET
    traceback: list[str] | UnsetType = UNSET


class FieldProblem(msgspec.Struct):
    """What is wrong with a parameter: its name, those of its members joined by dots."""

    field: str
    message: str


class InvalidParamsData(msgspec.Struct):
    """What is wrong with params, or with the item of the input of this index."""

    errors: list[FieldProblem] | UnsetType = UNSET
    index: int | UnsetType = UNSET


class InternalErrorData(msgspec.Struct):
    """The id under which the log has what happened."""

    error_id: str | int | UnsetType = UNSET


class UnavailableData(msgspec.Struct):
    """Whether the hub is stopping."""

    draining: bool | UnsetType = UNSET


class SerializationErrorData(msgspec.Struct):
    """Which chunk has no form in JSON, or is not as declared; the id under which the log has why."""

    index: int | UnsetType = UNSET
    error_id: str | int | UnsetType = UNSET


class CrashedData(msgspec.Struct):
    """Whether these params are refused because of the processes that died of them, and how many did."""

    quarantined: bool | UnsetType = UNSET
    kills: int | UnsetType = UNSET


class LimitData(msgspec.Struct):
    """The setting whose limit is reached."""

    limit: str | UnsetType = UNSET


class NotLoadedData(msgspec.Struct):
    """The modules that could not be loaded, and whether the method is known to be of one of them."""

    modules: list[str] | UnsetType = UNSET
    known: bool | UnsetType = UNSET


_DATA_OF: Final[dict[ErrorCode, type[msgspec.Struct]]] = {
    ErrorCode.INVALID_PARAMS: InvalidParamsData,
    ErrorCode.INTERNAL_ERROR: InternalErrorData,
    ErrorCode.WORKER_UNAVAILABLE: UnavailableData,
    ErrorCode.SERIALIZATION_ERROR: SerializationErrorData,
    ErrorCode.WORKER_CRASHED: CrashedData,
    ErrorCode.WORKER_OVERLOADED: LimitData,
    ErrorCode.RESOURCE_EXHAUSTED: LimitData,
    ErrorCode.PIPELINE_INITIALIZATION_FAILED: NotLoadedData,
    ErrorCode.INVALID_CONFIGURATION: NotLoadedData,
    ErrorCode.MISSING_DEPENDENCIES: NotLoadedData,
    ErrorCode.RATE_LIMITED: LimitData,
}
"""Code -> its further members of ``error.data``; of the others nothing more is known."""


def common_schema() -> Schema:
    """The JSON Schema of what ``error.data`` has in every error of the hub."""
    return msgspec.json.schema(ErrorData)


def schemas_by_code() -> dict[int, Schema]:
    """The JSON Schemas of the further members of ``error.data``, by code."""
    return {int(code): msgspec.json.schema(data) for code, data in _DATA_OF.items()}
