"""JSON Schemas (2020-12), as they travel: free JSON, since anybody's members may be in it."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
