"""The settings of an endpoint of a language model, where there are several."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class EndpointSettings(BaseModel):
    """One of ``llm_endpoints``. Prices are of a million tokens, all in one currency."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    base_url: Annotated[str, Field(pattern=r"^https?://")]
    model: Annotated[str, Field(min_length=1)]
    api_key: SecretStr | None = None
    params: dict[str, Any] = {}
    input_price: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    output_price: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    def for_packs(self) -> dict[str, Any]:
        """The endpoint as packs get it, with its key."""
        key = None if self.api_key is None else self.api_key.get_secret_value()
        return self.model_dump(exclude={"api_key"}) | {"api_key": key}
