"""Makes the tracer of calls, where the settings or OpenTelemetry's own variables ask for one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from trunkline.observe.tracing import Tracer

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def make_tracer(endpoint: str | None, ratio: float) -> Tracer | None:
    """The tracer of calls; None where none is configured, and then nothing of OpenTelemetry is imported.

    Args:
        endpoint: ``TRUNKLINE_OTLP_ENDPOINT``, which takes precedence over OpenTelemetry's own variables.
        ratio: the fraction that is recorded of the traces that begin here.

    Raises:
        ValueError: OpenTelemetry is not installed.
    """
    configured = endpoint is not None or any(os.environ.get(name) for name in ENDPOINTS)
    if not configured or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from trunkline.observe.tracing import Tracer
    except ImportError as error:
        raise ValueError(f"traces need a package: pip install 'trunkline[otel]' ({error})") from error
    return Tracer(endpoint, ratio)
