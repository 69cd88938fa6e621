"""Builds the hub's authentication, and TLS, from the settings."""

from __future__ import annotations

import importlib
import inspect
from typing import cast

from trunkline.config import Settings
from trunkline.edge.access.async_hook import AsyncHook
from trunkline.edge.access.credentials import Credentials
from trunkline.edge.access.jwt_tokens import JwtOptions
from trunkline.edge.tls import Tls, TlsFiles
from trunkline.hosting.runtime import ConfigurationError
from trunkline.hub.principal import Authenticate, AuthenticateLater


def credentials(settings: Settings) -> Credentials:
    """The authentication that the settings ask for.

    Raises:
        ConfigurationError: a setting cannot work; the message names it.
    """
    options = JwtOptions(
        key=settings.jwt_key.get_secret_value() if settings.jwt_key else None,
        keys_file=settings.jwt_keys_file,
        keys_url=settings.jwt_keys_url,
        algorithms=settings.jwt_algorithms,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        tenant_claim=settings.jwt_tenant_claim,
        claims=settings.jwt_claims,
        leeway=settings.jwt_leeway,
    )
    try:
        return Credentials(
            token=settings.token.get_secret_value() if settings.token else None,
            tokens_file=settings.tokens_file,
            jwt=options if settings.verifies_jwts else None,
            hook=None if settings.authenticate is None else _hook(settings, settings.authenticate),
        )
    except (ValueError, OSError) as error:
        raise ConfigurationError(str(error)) from error


def tls(settings: Settings) -> Tls | None:
    """TLS of the hub's port, as the settings ask for it; None where they ask for none.

    Raises:
        ConfigurationError: a file cannot be used; the message names it.
    """
    if settings.tls_certificate is None:
        return None
    files = TlsFiles(
        settings.tls_certificate,
        settings.tls_key,
        settings.tls_key_password_file,
        settings.tls_client_ca,
        settings.tls_client == "required",
    )
    try:
        return Tls(files)
    except ValueError as error:
        raise ConfigurationError(f"TRUNKLINE_TLS_*: {error}") from error


def _hook(settings: Settings, named: str) -> Authenticate | AsyncHook:
    hook = _loaded(named)
    if inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(getattr(hook, "__call__", None)):  # noqa: B004
        return AsyncHook(cast(AuthenticateLater, hook), settings.auth_seconds, settings.auth_cache_seconds)
    if settings.auth_cache_seconds:
        raise ConfigurationError(
            f"TRUNKLINE_AUTH_CACHE_SECONDS: {named} is a plain function, which is asked each time: make it a coroutine "
            "function (async def), or leave the setting out"
        )
    return hook


def _loaded(named: str) -> Authenticate:
    module, _, name = named.partition(":")
    try:
        hook: Authenticate = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"TRUNKLINE_AUTHENTICATE={named}: {error}") from error
    if not callable(hook):  # None would mean no hook at all, and let everybody in
        raise ConfigurationError(f"TRUNKLINE_AUTHENTICATE={named}: {name} is not a function")
    return hook
