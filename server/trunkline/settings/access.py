"""Settings of access: credentials, and the hosts, origins and addresses that are let in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings

from trunkline import defaults
from trunkline.settings.kinds import LiveInt, Names
from trunkline.settings.naming import require_networks, require_origins


class AccessSettings(BaseSettings):
    """Who may connect; a part of :class:`trunkline.config.Settings`."""

    token: SecretStr | None = Field(None, description="static bearer token, with every role")
    tokens_file: Path | None = Field(None, description="TOML file of principals, their tokens' SHA-256 and roles")
    jwt_key: SecretStr | None = Field(None, description="HMAC secret or PEM public key that verifies JWTs")
    jwt_keys_file: Path | None = Field(None, description="PEM or JWKS file of public keys for JWTs")
    jwt_keys_url: str | None = Field(None, description="https URL of the issuer's JWKS, fetched and kept up to date")
    jwt_keys_seconds: float = Field(300.0, ge=10, description="how often the JWKS at jwt_keys_url is fetched")
    jwt_algorithms: Names = Field((), description="accepted algorithms; default HS256 where the key is a secret")
    jwt_audience: str | None = Field(None, description="audience that aud must contain; required with JWTs")
    jwt_issuer: str | None = Field(None, description="issuer that iss must be; unset = not checked")
    jwt_tenant_claim: str = Field(
        "tenant", min_length=1, description="claim of a JWT that names the principal's tenant"
    )
    jwt_claims: Names = Field(
        (), description="claims of a JWT that methods and callees are told (ctx.principal.claims)"
    )
    jwt_leeway: float = Field(defaults.JWT_LEEWAY, ge=0, description="tolerated difference of the issuer's clock")
    auth_call: bool = Field(False, description="accept connections that authenticate by a first call of auth")
    auth_seconds: float = Field(
        5.0, gt=0, description="how long a connection may take to call auth, and the hook to answer"
    )
    auth_max_seconds: float = Field(
        0.0, ge=0, description="how long credentials last at most, then auth renews them; 0 = as long as they say"
    )
    authenticate: str | None = Field(None, description="module:function, the hook: a plain function or a coroutine")
    auth_cache_seconds: float = Field(
        0.0, ge=0, le=86_400, description="how long a token that the hook let in is let in unasked; 0 = never"
    )
    allowed_hosts: Names = Field((), description="accepted Host names, beside the bound address")
    allowed_origins: Annotated[Names, AfterValidator(require_origins)] = Field(
        (), description="accepted Origins of browsers, beside the hub's own; `loopback`: of this machine, `*`: any"
    )

    trusted_proxies: Annotated[Names, AfterValidator(require_networks)] = Field(
        (), description="addresses and networks whose X-Forwarded-For is trusted"
    )
    failed_logins: LiveInt = Field(
        defaults.FAILED_LOGINS,
        ge=0,
        description="wrong tokens from one address within a minute, after which others wait; 0 = no limit",
    )

    @property
    def authenticates(self) -> bool:
        """Whether clients have to authenticate."""
        return self.verifies_jwts or any(way is not None for way in (self.token, self.tokens_file, self.authenticate))

    @property
    def verifies_jwts(self) -> bool:
        """Whether there are keys for JWTs."""
        return any(keys is not None for keys in (self.jwt_key, self.jwt_keys_file, self.jwt_keys_url))
