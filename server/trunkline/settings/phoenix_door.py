"""The settings of Phoenix channels."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from trunkline.settings.kinds import Names
from trunkline_protocol.codecs.phoenix_names import require_channels


class PhoenixSettings(BaseModel):
    """What clients of Phoenix find at ``/socket``."""

    max_channels: int = Field(128, ge=1, description="channels of one Phoenix socket")
    phoenix_channels: Annotated[Names, AfterValidator(require_channels)] = Field(
        (), description="Phoenix channels that are topics, by name or beginning, such as room:*"
    )
