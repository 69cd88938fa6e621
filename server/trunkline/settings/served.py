"""Settings of what the hub serves, and where: addresses, sockets, methods, executors, folders."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_serializer, field_validator
from pydantic_settings import BaseSettings

from trunkline import defaults
from trunkline.settings.executor_groups import Groups, default_executors
from trunkline.settings.kinds import LIVE, Names
from trunkline.settings.naming import require_variables
from trunkline_protocol.framing import DialectName, FramingName

DEFAULT_PORT = 8765


class ServedSettings(BaseSettings):
    """What is served, and where; a part of :class:`trunkline.config.Settings`."""

    host: str = Field("127.0.0.1", description="address to bind")
    port: int | None = Field(None, ge=0, le=65535, description="unset = 8765, or none where a Unix socket is given")
    tls_certificate: Path | None = Field(
        None, description="PEM file of the port's certificate and its chain; unset = no TLS"
    )
    tls_key: Path | None = Field(None, description="PEM file of its private key; unset = in tls_certificate")
    tls_key_password_file: Path | None = Field(None, description="file whose first line decrypts that key")
    tls_client_ca: Path | None = Field(
        None, description="PEM file of the authorities of clients' certificates; unset = clients are asked for none"
    )
    tls_client: Literal["required", "optional"] = Field(
        "required", description="whether a client without a certificate of tls_client_ca is refused"
    )
    uds: Path | None = Field(None, description="Unix socket for HTTP and WebSocket")
    uds_mode: int = Field(0o600, ge=0, le=0o777, description="permissions of the Unix sockets' files, in octal as text")
    uds_framed: Path | None = Field(None, description="Unix socket for peers that speak a framed protocol")
    uds_framing: FramingName = Field("packet4", description="framing of uds_framed")
    uds_dialect: DialectName = Field("jsonrpc", description="dialect of uds_framed")
    packs: Names | None = Field(None, description="method packs; unset = all that are installed, none = no pack")
    methods: Names = Field((), description="modules with @method functions")
    executor_env: Annotated[Names, AfterValidator(require_variables)] = Field(
        (), description="variables passed to executors beside the usual ones; X* for a prefix"
    )
    executors: int = Field(default_factory=default_executors, ge=0, le=256, description="0 = in the hub's process")
    groups: Groups = Field({}, description="groups of executors, by name; none = one of everything")
    data: Path = Field(Path("data"), description="folder for collections and jobs")
    disk_warning_bytes: Annotated[int | None, LIVE] = Field(
        None, ge=0, description="free bytes below which health warns; unset = 5 %, 0 = never"
    )
    documents_root: str | None = Field(
        None, description="folder whose files documents.process may read, or several (:), each tenant's with {tenant}"
    )
    document_seconds: float = Field(
        defaults.DOCUMENT_SECONDS, gt=0, le=2**31, description="how long reading one document may take"
    )
    document_megabytes: int = Field(
        defaults.DOCUMENT_MEGABYTES, ge=256, le=2**20, description="MiB of memory that reading one document may take"
    )
    demo: bool = Field(True, description="index the demo collection at first start")

    @field_validator("port", mode="before")
    @classmethod
    def _no_service_link(cls, value: Any) -> Any:
        if isinstance(value, str) and "://" in value:
            raise ValueError(
                "is what Kubernetes sets for a service named trunkline: put enableServiceLinks: false into the pod's "
                "spec, or give the service another name"
            )
        return value

    @field_validator("uds_mode", mode="before")
    @classmethod
    def _octal(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return int(value.removeprefix("0o"), 8)
        except ValueError as error:
            raise ValueError(f"{value!r} is no octal number such as 600 or 0660") from error

    @field_validator("tls_key", "tls_key_password_file", "tls_client_ca")
    @classmethod
    def _with_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None and info.data.get("tls_certificate") is None:
            raise ValueError("is of no use without tls_certificate: set TRUNKLINE_TLS_CERTIFICATE, too")
        return value

    @field_validator("packs")
    @classmethod
    def _no_packs(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return () if value == ("none",) else value

    @field_serializer("uds_mode", when_used="json")
    def _as_octal(self, value: int) -> str:
        return format(value, "o")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the hub."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
