"""The settings of services elsewhere that the hub watches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, model_validator

from trunkline.settings.kinds import Names

SERVICE_PORTS: Final[Mapping[str, int | None]] = {
    "http": 80, "https": 443, "redis": 6379, "postgres": 5432, "postgresql": 5432, "tcp": None,
}  # fmt: skip
"""The schemes of services, and their ports where none is given."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_OF_EXECUTORS: Final = re.compile(r".*-\d+")
_MAX_SERVICES: Final = 50


def _service_name(name: str) -> str:
    if not _NAME.fullmatch(name) or name in ("hub", "detailed") or _OF_EXECUTORS.fullmatch(name):
        raise ValueError(
            "a service's name is a small letter and then small letters, digits, - and _, 32 at most; "
            "hub, detailed, and what ends as names of executors do (-0), are taken"
        )
    return name


def _service_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in SERVICE_PORTS:
        raise ValueError(f"is no URL of a service; they begin with {', '.join(f'{each}://' for each in SERVICE_PORTS)}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("has a user or password in it: it is asked whether it answers, without logging in")
    if not parts.hostname or (parts.port or SERVICE_PORTS[parts.scheme]) is None:
        raise ValueError("names no host, or no port")
    return url


ServiceName = Annotated[str, AfterValidator(_service_name)]
ServiceUrl = Annotated[str, AfterValidator(_service_url)]


class ServiceSettings(BaseModel):
    """Services that methods, or a gateway before the hub, depend on."""

    services: dict[ServiceName, ServiceUrl] = Field(
        {},
        max_length=_MAX_SERVICES,
        description="services that are watched, by name: http(s), redis, postgres, tcp URLs",
    )
    required_services: Names = Field((), description="those without which /ready is 503")

    @model_validator(mode="after")
    def _requires_known_services(self) -> Self:
        if unknown := [name for name in self.required_services if name not in self.services]:
            raise ValueError(f"required_services: there is no service {unknown[0]!r:.50} in services")
        return self
