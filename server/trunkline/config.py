"""Settings: command line over ``TRUNKLINE_*`` over a TOML file over the defaults here."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from trunkline import defaults
from trunkline.settings.access import AccessSettings
from trunkline.settings.executor_groups import GroupSettings
from trunkline.settings.kinds import LIVE, LiveFloat, LiveInt, Names
from trunkline.settings.language_models import EndpointSettings
from trunkline.settings.naming import (
    PREFIX,
    SettingsError,
    parted,
    problems_of,
    require_patterns,
    unknown_variables,
)
from trunkline.settings.phoenix_door import PhoenixSettings
from trunkline.settings.probed_services import ServiceSettings
from trunkline.settings.served import ServedSettings
from trunkline.settings.tenancy import TenantSettings
from trunkline_protocol.backlog import QUEUE_BYTES, QUEUE_LIMIT, QUEUE_LIMIT_PER_CONNECTION

OF_ONE: Final = "the same of one principal"
Level = Literal["debug", "info", "warning", "error"]

Origin = Literal["default", "file", "environment", "command line", "update"]
"""Where the value of a setting comes from."""


CREDENTIALS = (
    "token", "tokens_file", "jwt_key", "jwt_keys_file", "jwt_keys_url", "jwt_algorithms", "jwt_audience", "jwt_issuer",
    "authenticate", "llm_api_key",
)  # fmt: skip
"""Settings that are never blank: a variable that was to hold a secret and is empty would leave the door open."""


class Settings(ServiceSettings, PhoenixSettings, TenantSettings, AccessSettings, ServedSettings):
    """Everything that can be set. Sizes are in bytes, times in seconds, unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", validate_default=True)

    model: str = Field(defaults.DEFAULT_MODEL, description="sentence-transformers model: a Hub name or a path")
    embedding_backend: Literal["auto", "torch", "openvino", "openvino-int8"] = Field(
        "auto",
        description="what computes embeddings; auto = openvino where trunkline convert-model was run, else torch",
    )
    embedding_cache_bytes: int = Field(
        defaults.EMBEDDING_CACHE_BYTES, ge=0, description="vectors one executor caches; 0 = none"
    )
    embedding_cache_seconds: float = Field(
        defaults.EMBEDDING_CACHE_SECONDS, gt=0, description="how long they are cached"
    )
    cross_encoder: str | None = Field(
        None, description="folder of a sentence-transformers CrossEncoder, for the technique `cross_encoder`"
    )
    response_cache_bytes: int = Field(
        defaults.RESPONSE_CACHE_BYTES, ge=0, description="answers of rag.* that one executor caches; 0 = none"
    )
    response_cache_seconds: float = Field(defaults.RESPONSE_CACHE_SECONDS, gt=0, description="how long they are cached")
    response_cache_techniques: Names = Field(
        (), description="techniques that use the cache where the call says nothing"
    )
    llm_base_url: str | None = Field(None, description="OpenAI-compatible endpoint; unset = extractive answers")
    llm_model: str | None = Field(None, description="its model; required with it")
    llm_api_key: SecretStr | None = Field(None, description="its key")
    llm_params: dict[str, Any] = Field(
        {}, description='JSON: members of each request to it; null takes one out, as `{"temperature": null}`'
    )
    llm_endpoints: tuple[EndpointSettings, ...] = Field(
        (),
        max_length=20,
        description="JSON: endpoints, tried in this order: see docs/retrieval.md",
    )
    llm_budget: float = Field(
        0.0, ge=0, description="what they may cost a day (UTC), in the unit of the prices; 0 = no limit"
    )

    max_connections: LiveInt = Field(16_384, ge=1, description="connections of all principals")
    max_connections_per_principal: LiveInt = Field(0, ge=0, description=f"{OF_ONE}; 0 = no limit")
    max_connections_per_tenant: LiveInt = Field(0, ge=0, description="the same of one tenant; 0 = no limit")
    max_connections_per_address: LiveInt = Field(
        0, ge=0, description="the same from one address, or one IPv6 /64; 0 = no limit"
    )
    max_calls: LiveInt = Field(defaults.MAX_CALLS, ge=1, description="calls in flight of all connections")
    max_calls_per_principal: LiveInt = Field(0, ge=0, description=f"{OF_ONE}; 0 = no limit")
    max_calls_per_tenant: int = Field(0, ge=0, description="the same of one tenant; 0 = no limit")
    max_calls_per_connection: LiveInt = Field(
        defaults.MAX_CALLS_PER_CONNECTION, ge=1, description="calls in flight of one connection"
    )
    max_subscriptions: LiveInt = Field(defaults.MAX_SUBSCRIPTIONS, ge=0, description="subscriptions of one connection")
    max_subscriptions_per_principal: LiveInt = Field(
        defaults.MAX_SUBSCRIPTIONS_PER_PRINCIPAL,
        ge=0,
        description="subscriptions of one principal; a pattern counts once a token",
    )
    max_registrations_per_principal: LiveInt = Field(
        0, ge=0, description="methods that the connections of one principal serve; 0 = no limit"
    )
    max_mcp_sessions_per_principal: LiveInt = Field(0, ge=0, description="MCP sessions of one principal; 0 = no limit")
    max_sessions: LiveInt = Field(defaults.MAX_SESSIONS, ge=0, description="resumable sessions of all principals")
    max_sessions_per_principal: LiveInt = Field(defaults.MAX_SESSIONS_PER_PRINCIPAL, ge=0, description=OF_ONE)
    max_pipelines: LiveInt = Field(defaults.MAX_PIPELINES, ge=0, description="pipelines of all principals")
    max_pipelines_per_principal: LiveInt = Field(defaults.MAX_PIPELINES_PER_PRINCIPAL, ge=0, description=OF_ONE)
    session_seconds: float = Field(
        defaults.SESSION_SECONDS, ge=0, description="how long a session outlives its connection"
    )
    rate_limit: LiveFloat = Field(0.0, ge=0, description="calls a second of one principal; 0 = no limit")
    rate_burst: LiveInt = Field(0, ge=0, description="burst of one principal, in calls; 0 = one second's worth")
    rate_limit_per_tenant: LiveFloat = Field(0.0, ge=0, description="calls a second of one tenant; 0 = no limit")
    idempotency_keys: int = Field(
        defaults.IDEMPOTENCY_KEYS,
        ge=0,
        description="keys of calls, and as many of publications, of all principals",
    )
    idempotency_keys_per_principal: int = Field(defaults.IDEMPOTENCY_KEYS_PER_PRINCIPAL, ge=0, description=OF_ONE)
    queue_limit: int = Field(QUEUE_LIMIT, ge=0, description="calls queued for executors, and as many for callees")
    queue_limit_per_connection: int = Field(
        QUEUE_LIMIT_PER_CONNECTION, ge=0, description="queued calls of one connection"
    )
    queue_bytes: int = Field(QUEUE_BYTES, ge=1024, description="params of queued calls")
    max_concurrency: int = Field(
        defaults.MAX_CONCURRENCY, ge=1, description="coroutine methods that one executor runs at once"
    )
    kill_after: LiveFloat = Field(
        defaults.KILL_AFTER, gt=0, description="overrun of deadline or cancel that ends an executor"
    )
    quarantine_kills: LiveInt = Field(defaults.QUARANTINE_KILLS, ge=1, description="executors one input may kill")
    quarantine_seconds: LiveFloat = Field(
        defaults.QUARANTINE_SECONDS, gt=0, description="how long an input is quarantined"
    )
    callee_grace: LiveFloat = Field(
        defaults.CALLEE_GRACE, ge=0, le=600, description="how long a method waits for another client to serve it"
    )
    breaker_ratio: LiveFloat = Field(
        defaults.BREAKER_RATIO,
        ge=0,
        le=1,
        description="share of failures that opens a method's breaker; 0 = no breakers",
    )
    breaker_window: LiveFloat = Field(defaults.BREAKER_WINDOW, ge=1, le=300, description="over which it is counted")
    breaker_calls: LiveInt = Field(defaults.BREAKER_CALLS, ge=1, description="calls that have to end within it")
    breaker_seconds: LiveFloat = Field(defaults.BREAKER_SECONDS, gt=0, description="how long a breaker is open first")
    breaker_probes: LiveInt = Field(defaults.BREAKER_PROBES, ge=1, description="calls that have to succeed to close it")
    hand_over_seconds: float = Field(
        defaults.HAND_OVER_SECONDS, gt=0, description="how long running calls may delay a hand-over"
    )
    rebalance_seconds: float = Field(
        defaults.REBALANCE_SECONDS, ge=0, description="between moves of routing slots that even load; 0 = none"
    )
    replace: Literal["auto", "new_first", "old_first"] = Field("auto", description="auto = new first, if memory allows")
    finish_seconds: float = Field(
        defaults.FINISH_SECONDS, ge=0, description="how long streams of replaced executors last"
    )
    strict: bool = Field(False, description="refuse to start if a module of methods cannot be loaded")
    start_timeout: float = Field(defaults.START_TIMEOUT, gt=0, description="how long an executor may take to start")
    drain_seconds: LiveFloat = Field(10.0, ge=0, description="drain: how long calls may run after SIGTERM")
    close_seconds: LiveFloat = Field(2.0, ge=0, description="over how long connections are closed after the drain")
    ping_interval: float = Field(defaults.PING_INTERVAL, gt=0, description="between pings of a connection")
    ping_timeout: float = Field(defaults.PING_TIMEOUT, gt=0, description="how long a peer may be silent after a ping")
    max_message_bytes: int = Field(16 * 2**20, ge=1024, description="size of one message of a client")
    max_batch: int = Field(defaults.MAX_BATCH, ge=1, description="members of one batch")
    partial_bytes: int = Field(defaults.PARTIAL_BYTES, ge=2**20, description="unfinished messages of all principals")
    partial_bytes_per_principal: int = Field(defaults.PARTIAL_BYTES_PER_PRINCIPAL, ge=2**20, description=OF_ONE)
    detached_bytes: int = Field(256 * 2**20, ge=2**20, description="outboxes of all detached sessions")
    detached_bytes_per_principal: int = Field(64 * 2**20, ge=2**20, description=OF_ONE)
    outbox_bytes: int = Field(16 * 2**20, ge=64 * 1024, description="responses queued for one slow connection")
    outbox_event_bytes: int = Field(4 * 2**20, ge=1024, description="events queued for one slow connection")
    unsigned_topics: Annotated[Names, AfterValidator(require_patterns)] = Field(
        (), description="topics and patterns whose events do not name their publisher"
    )
    history_events: LiveInt = Field(defaults.HISTORY_EVENTS, ge=0, description="events kept of each topic")
    history_seconds: LiveFloat = Field(defaults.HISTORY_SECONDS, ge=0, description="how long events are kept")
    history_bytes: LiveInt = Field(defaults.HISTORY_BYTES, ge=0, description="size of all kept events")

    jobs_at_once: Annotated[int | None, LIVE] = Field(
        None, ge=1, description="jobs that run at once; unset = half the executors"
    )
    job_seconds: LiveFloat = Field(
        defaults.JOB_SECONDS, gt=0, le=2**31, description="how long one attempt of a job may take"
    )
    job_attempts: LiveInt = Field(defaults.JOB_ATTEMPTS, ge=1, description="attempts of a job before it has failed")
    job_bytes: LiveInt = Field(defaults.JOB_BYTES, ge=1024, description="size of a job's params, and of its result")
    jobs_waiting: LiveInt = Field(defaults.JOBS_WAITING, ge=0, description="unfinished jobs of all principals")
    jobs_waiting_per_principal: LiveInt = Field(defaults.JOBS_WAITING_PER_PRINCIPAL, ge=0, description=OF_ONE)
    jobs_waiting_bytes: LiveInt = Field(
        defaults.JOBS_WAITING_BYTES, ge=0, description="params of unfinished jobs, on disk"
    )
    jobs_kept: LiveInt = Field(defaults.JOBS_KEPT, ge=0, description="finished jobs that are kept")
    jobs_kept_seconds: LiveFloat = Field(
        defaults.JOBS_KEPT_SECONDS, ge=0, description="how long finished jobs are kept"
    )

    conversations_per_principal: LiveInt = Field(
        defaults.CONVERSATIONS_PER_PRINCIPAL, ge=0, description="conversations of one principal that are kept"
    )
    conversation_turns: LiveInt = Field(defaults.CONVERSATION_TURNS, ge=1, description="questions of one conversation")
    conversation_bytes: LiveInt = Field(
        defaults.CONVERSATION_BYTES, ge=1024, description="size of the questions and answers of one conversation"
    )
    conversations_kept_seconds: LiveFloat = Field(
        defaults.CONVERSATIONS_KEPT_SECONDS, gt=0, description="how long one is kept since something was asked in it"
    )

    audit_file: Path | None = Field(None, description="one JSON line a call: who, what, outcome")
    audit_max_bytes: int | None = Field(None, ge=4096, description="size of the audit file at which a new one is begun")
    audit_max_seconds: float | None = Field(None, gt=0, description="age of the audit file at which a new one is begun")
    audit_kept: int = Field(defaults.AUDIT_KEPT, ge=1, description="older audit files that are kept: .1, .2, ...")
    log_level: Annotated[Level, LIVE] = Field("info", description="what is logged: this and worse")
    log_format: Literal["auto", "pretty", "json"] = Field("auto", description="auto = pretty on a terminal, else json")
    log_requests: Annotated[bool, LIVE] = Field(
        False, description="a line for each call that ends; at debug there always is one"
    )
    keep_failed_params: Annotated[bool, LIVE] = Field(
        True, description="keep the params of failed calls while a dashboard is open"
    )
    otlp_endpoint: str | None = Field(None, description="where traces go (OTLP over HTTP), such as http://host:4318")
    trace_ratio: float = Field(1.0, ge=0, le=1, description="share of the traces begun by this hub that are recorded")
    debug: bool = Field(False, description="send tracebacks to callers")

    _file: Path | None = PrivateAttr(None)
    _options: dict[str, Any] = PrivateAttr(default_factory=dict)
    _origins: dict[str, Origin] = PrivateAttr(default_factory=dict)

    @field_validator(*CREDENTIALS, mode="before")
    @classmethod
    def _not_blank(cls, value: Any, info: ValidationInfo) -> Any:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(text, str) and not text.strip():
            name = info.field_name or ""
            raise ValueError(
                f"is empty: give it a value, or leave it out ({PREFIX}{name.upper()}, or {name} in the file)"
            )
        return value

    @model_validator(mode="after")
    def _loopback_or_authenticated(self) -> Settings:
        if not self.is_loopback and not self.authenticates:
            raise ValueError(
                f"host {self.host} can be reached from other machines: set TRUNKLINE_TOKEN (or TRUNKLINE_TOKENS_FILE, "
                "TRUNKLINE_JWT_KEY, TRUNKLINE_AUTHENTICATE=module:function), or bind 127.0.0.1"
            )
        if self.executors == 0 and not self.is_loopback:
            raise ValueError(f"executors 0 is for debuggers: bind 127.0.0.1 instead of {self.host}")
        if (self.jwt_audience or self.jwt_issuer or self.jwt_algorithms) and not self.verifies_jwts:
            raise ValueError("TRUNKLINE_JWT_* is set, but none of TRUNKLINE_JWT_KEY, _KEYS_FILE and _KEYS_URL")
        return self

    @property
    def file(self) -> Path | None:
        """The TOML file that was read."""
        return self._file

    @property
    def origins(self) -> dict[str, Origin]:
        """Where the values of settings come from, by name; those that are not in it have their default."""
        return self._origins

    def read_again(self) -> Settings:
        """Settings of the same file, environment and options, read again; raises as :func:`load_settings`."""
        return load_settings(self._file, **self._options)

    def with_changes(self, changes: dict[str, Any]) -> Settings:
        """The same settings with some of them changed, validated as a whole.

        Raises:
            SettingsError: with all that is wrong.
        """
        try:
            changed = GivenSettings(**{name: getattr(self, name) for name in Settings.model_fields} | changes)
        except ValidationError as error:
            raise SettingsError(_problems(error)) from None
        changed._file, changed._options = self._file, self._options
        changed._origins = self._origins | {
            name: "update" for name in changes if getattr(changed, name) != getattr(self, name)
        }
        return changed

    @property
    def secrets(self) -> list[str]:
        """The values of the secrets among the settings, which must never be logged."""
        known = (self.token, self.jwt_key, self.llm_api_key)
        endpoints = (endpoint.api_key for endpoint in self.llm_endpoints)
        return [secret.get_secret_value() for secret in (*known, *endpoints) if secret is not None]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources of settings, by precedence; called by pydantic-settings."""
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))


class GivenSettings(Settings):
    """Settings that are given, so that neither the environment nor a file is looked at."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The one source."""
        return (init_settings,)


LIVE_SETTINGS: Final = frozenset(name for name, field in Settings.model_fields.items() if LIVE in field.metadata)
"""The settings that can change while the hub runs."""


def unknown_settings(others: tuple[str, ...] = ()) -> list[str]:
    """The problems with names of ``TRUNKLINE_*`` variables, one sentence each.

    Args:
        others: names of variables that are for methods, beside those that ``TRUNKLINE_EXECUTOR_ENV`` names.
    """
    said = os.environ.get(f"{PREFIX}EXECUTOR_ENV", "")
    return unknown_variables(os.environ, Settings.model_fields, [*others, *(name.strip() for name in said.split(","))])


def load_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings.

    Args:
        config: a TOML file with the names of :class:`Settings` at top level.
        overrides: settings of the command line; None stands for one that was not given.

    Raises:
        FileNotFoundError: ``config`` does not exist.
        SettingsError: an invalid value, or an unknown name, in the file or among ``TRUNKLINE_*``.
    """
    if config is not None and not config.is_file():
        raise FileNotFoundError(f"no such configuration file: {config}")
    said = {name: value for name, value in overrides.items() if value is not None}

    class FileSettings(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    try:
        settings = FileSettings(**said)
    except ValidationError as error:
        raise SettingsError([*parted(unknown_settings()), *_problems(error)]) from None  # its own text shows values
    if unknown := unknown_settings(settings.executor_env):
        raise SettingsError(parted(unknown))
    settings._file, settings._options = config, said
    settings._origins = _origins(config, said)
    return settings


def _origins(config: Path | None, options: Collection[str]) -> dict[str, Origin]:
    variables = {name.upper() for name in os.environ}
    in_file = tomllib.loads(config.read_text()) if config is not None else {}
    found: dict[str, Origin] = {}
    for name in Settings.model_fields:
        if name in options:
            found[name] = "command line"
        elif PREFIX + name.upper() in variables:
            found[name] = "environment"
        elif name in in_file:
            found[name] = "file"
    return found


def _problems(error: ValidationError) -> list[tuple[str, str]]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return problems_of(found, lambda part: (GroupSettings if part == "groups" else Settings).model_fields)
