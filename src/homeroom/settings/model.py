"""The settings with their defaults, read from the environment.

The first sentence of a group's docstring is its title in ``docs/settings.md`` and in
``GET /api/v1/settings``.
"""

from __future__ import annotations

import ipaddress
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from homeroom.errors import ConfigurationError
from homeroom.settings.field_types import (
    ClaimPath,
    Currency,
    Duration,
    EventRetention,
    HostPorts,
    HttpUrl,
    Names,
    Origins,
    PositiveDuration,
    RedisUrl,
    Retention,
    RoleMap,
    TestClock,
    check_mail_host_name,
    clock_offset,
)
from homeroom.settings.invalid_values import describe_fault
from homeroom.settings.messages import MessageSettings
from homeroom.settings.partners import CredentialSettings, PartnerSettings
from homeroom.settings.school_accounts import SchoolAccountSettings
from homeroom.settings.unknown_names import unknown_setting_problems

ENV_PREFIX = "HOMEROOM_"


class ServerSettings(BaseModel):
    """Server."""

    data_dir: Path = Field(Path("var"), description="Folder of the database file and other data.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8420, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    processes: int = Field(
        1, ge=1, le=64, description="API processes that share the port; several need PostgreSQL."
    )
    public_url: HttpUrl | None = Field(
        None, description="URL by which others reach this server. Unset: `http://{host}:{port}`."
    )
    cors_origins: Origins = Field(
        (), description="Origins whose pages may call the API, separated by commas; `*` for all."
    )
    max_body_bytes: int = Field(
        1024 * 1024, ge=1024, description="Largest request body; a larger one is answered with 413."
    )
    shutdown_grace: Duration = Field(
        timedelta(seconds=25), description="Time that a stop waits for running requests and jobs."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level that is logged."
    )
    log_format: Literal["json", "console"] | None = Field(
        None, description="Unset: `console` on a terminal, else `json`."
    )
    health_check_interval: PositiveDuration = Field(
        timedelta(seconds=60),
        description="Interval of WAL checkpoints and of releasing memory (`healthCheckInterval`).",
    )
    alert_interval: PositiveDuration = Field(
        timedelta(seconds=15), description="Interval at which the rules of alerts are evaluated."
    )
    test_clock: TestClock | None = Field(
        None, description="Moves the clock to an instant or by a span; for the demo and tests only."
    )


class StorageSettings(BaseModel):
    """Data and jobs."""

    database_url: SecretStr | None = Field(
        None,
        description="`sqlite:///file`, or `postgresql://user:password@host/database` with libpq's"
        " options (`?sslmode=verify-full`). Unset: `sqlite:///{data dir}/homeroom.db`.",
    )
    database_connections: int = Field(
        16, ge=8, le=500, description="Connections of one process to PostgreSQL at most."
    )
    queue_url: RedisUrl | None = Field(
        None,
        description="Redis URL of the job queues, `rediss://` for TLS. Unset: jobs run from the "
        "database.",
    )
    redis_host: str | None = Field(
        None, validation_alias="REDIS_HOST", description="Another way to set the queue URL."
    )
    redis_port: int = Field(6379, validation_alias="REDIS_PORT", description="With `REDIS_HOST`.")
    redis_password: SecretStr | None = Field(
        None, validation_alias="REDIS_PASSWORD", description="With `REDIS_HOST`."
    )
    redis_sentinels: HostPorts = Field(
        (),
        description="Redis Sentinels, as `host:port,host:port`; in place of "
        "the URL, with `REDIS_PASSWORD`.",
    )
    redis_sentinel_name: str = Field("mymaster", description="Name of the server at the Sentinels.")
    redis_sentinel_password: SecretStr | None = Field(
        None, description="Password of the Sentinels themselves."
    )
    redis_tls: bool = Field(
        False,
        description="TLS with `REDIS_HOST`, or with Sentinels and their server.",
    )
    redis_ca_file: Path | None = Field(
        None,
        description="CA certificates for Redis, in PEM form. Unset: the system's.",
    )
    worker_port: int | None = Field(
        None,
        ge=0,
        le=65_535,
        description="Port where `homeroom worker` answers probes and `/metrics`. Unset: none.",
    )
    worker_queues: Names = Field(
        (),
        description="Queues whose jobs a worker of `homeroom worker` or `homeroom serve` runs,"
        " separated by commas. Unset: all.",
    )
    concurrency: int = Field(
        3,
        ge=1,
        le=1_000,
        description="Jobs of one queue that run at once (`maxConcurrency`), for queues without a"
        " number of their own (`homeroom queues set`).",
    )
    job_lease: PositiveDuration = Field(
        timedelta(seconds=30),
        description="Silence after which a worker's jobs are rescued.",
    )
    jobs_keep_completed: int = Field(100, ge=0, description="Completed jobs that stay, per queue.")
    jobs_keep_failed: int = Field(200, ge=0, description="Failed jobs that stay, per queue.")
    jobs_keep_for: Retention | None = Field(
        None, description="Age at which finished jobs are deleted. Unset: only their number counts."
    )
    audit_retention: Retention | None = Field(
        None, description="Age at which audit entries are deleted. Unset: never."
    )


class IngestSettings(BaseModel):
    """Progress ingest."""

    ingest_max_queue: int = Field(
        100_000, ge=1, description="Events that may wait; more get 429 (`maxQueueSize`)."
    )
    ingest_max_batch: int = Field(
        5_000, ge=1, description="Events in one commit at most (`batchSize`)."
    )
    ingest_max_retries: int = Field(
        3,
        ge=0,
        description="Retries of a commit while the database is unreachable (`maxRetries`).",
    )
    ingest_retry_delay: Duration = Field(
        timedelta(seconds=1), description="Pause between these retries (`retryDelay`)."
    )
    ingest_task_timeout: PositiveDuration = Field(
        timedelta(seconds=30),
        description="Time after which a commit is interrupted (`taskTimeout`).",
    )
    quarantine_ttl: Retention = Field(
        timedelta(days=30),
        description="Age at which quarantined events are deleted (`ttl`).",
    )
    change_retention: Retention = Field(
        timedelta(days=30),
        description="Age at which entries of `GET /api/v1/changes` are deleted; a consumer that was"
        " away for longer has to start anew.",
    )
    event_retention: EventRetention | None = Field(
        None,
        description="Age at which events are compacted into totals, 90 days or more; an event that"
        " is sent again after that counts twice. Unset: never.",
    )


class AccessSettings(BaseModel):
    """Access."""

    admin_key: SecretStr | None = Field(
        None, description="A token with the role `admin`; at least 16 characters."
    )
    jwt_secret: SecretStr | None = Field(
        None, description="Secret of HS256 tokens; at least 32 bytes."
    )
    jwt_jwks_url: HttpUrl | None = Field(
        None, description="URL of the public keys of RS256, ES256 and EdDSA tokens."
    )
    jwt_issuer: str | None = Field(None, description="Required `iss` of tokens. Unset: any.")
    jwt_audience: str | None = Field(None, description="Required `aud` of tokens. Unset: any.")
    jwt_roles_claim: ClaimPath = Field(
        "roles",
        description="Claim of tokens that holds roles: a name, or a path such as"
        " `realm_access.roles`; a list, or text with spaces.",
    )
    jwt_role_map: RoleMap = Field(
        (),
        description="Words of that claim and their roles, as `student=learner,staff=manager`;"
        " other words then have none. Unset: the words are the roles themselves.",
    )
    jwt_default_role: Literal["learner", "facilitator"] | None = Field(
        None, description="Role of a valid token that holds none."
    )
    session_lifetime: PositiveDuration = Field(
        timedelta(hours=12), description="Lifetime of a sign-in session in a browser."
    )


class LanguageModelSettings(BaseModel):
    """Language model. Without one, lesson plans are written by rule."""

    llm_model: str | None = Field(
        None, description="Model that writes lesson plans. Unset: they are written by rule."
    )
    llm_kind: Literal["openai", "anthropic", "google"] = Field(
        "openai", description="Protocol of its API; most servers implement `openai`."
    )
    llm_url: HttpUrl | None = Field(
        None, description="Its API, such as `http://127.0.0.1:11434/v1`. Unset: the provider's own."
    )
    llm_api_key: SecretStr | None = Field(None, description="Key of that API.")
    llm_output: Literal["native", "tool", "prompted"] | None = Field(
        None,
        description="Mode of JSON output. Unset: `tool` with `anthropic`, else `native`.",
    )
    llm_max_tokens: int = Field(
        6_000, ge=256, le=200_000, description="Tokens of one response at most."
    )
    llm_timeout: PositiveDuration = Field(
        timedelta(seconds=120), description="Time limit of one call."
    )
    llm_requests_per_minute: int | None = Field(
        None, ge=1, description="Calls a minute of all workers together. Unset: no limit."
    )
    llm_tokens_per_minute: int | None = Field(
        None, ge=1_000, description="Tokens a minute of all workers together. Unset: no limit."
    )
    llm_budget: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Cost limit of one plan; a call that could exceed it is not made.",
    )
    llm_currency: Currency = Field("USD", description="Currency of budget and prices (ISO 4217).")
    llm_price_input: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Price of a million input tokens. Unset: a list of published prices.",
    )
    llm_price_output: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Price of a million output tokens."
    )
    llm_retries: int = Field(3, ge=0, le=20, description="Retries of a module whose model fails.")
    llm_retry_delay: Duration = Field(
        timedelta(minutes=1),
        description="Longest pause before the first retry; it doubles with each.",
    )


SETTING_GROUPS: tuple[type[BaseModel], ...] = (
    ServerSettings,
    StorageSettings,
    IngestSettings,
    AccessSettings,
    SchoolAccountSettings,
    PartnerSettings,
    CredentialSettings,
    LanguageModelSettings,
    MessageSettings,
)


class Settings(
    ServerSettings,
    StorageSettings,
    IngestSettings,
    AccessSettings,
    SchoolAccountSettings,
    PartnerSettings,
    CredentialSettings,
    LanguageModelSettings,
    MessageSettings,
    BaseSettings,
):
    """All settings. ``load`` reads them and reports invalid ones by name."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,  # a wrong secret must not end up in a log
    )

    @property
    def database(self) -> str:
        """Return the URL of the database, the default where none is set."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir.resolve() / 'homeroom.db'}"

    @property
    def database_location(self) -> Path | str:
        """Return the SQLite file, or the URL of the PostgreSQL database.

        Raises ``ConfigurationError`` for a URL that is neither.
        """
        url = self.database
        if url.startswith(("postgresql://", "postgres://")):
            return url
        scheme, _, path = url.partition(":///")
        if scheme != "sqlite" or not path:
            raise ConfigurationError(
                "HOMEROOM_DATABASE_URL names neither a SQLite file nor a PostgreSQL database.",
                hint="Write sqlite:///relative/path.db, sqlite:////absolute/path.db or"
                " postgresql://user:password@host:5432/database.",
            )
        return Path(path)

    @property
    def is_embedded(self) -> bool:
        """Return whether the data is in a SQLite file, which this process maintains."""
        return isinstance(self.database_location, Path)

    @property
    def database_name(self) -> str:
        """Return the database for messages: without user, password and options."""
        location = self.database_location
        if isinstance(location, Path):
            return str(location)
        try:
            parts = urlsplit(location)
        except ValueError:  # opening the database reports it
            return "postgresql://..."
        return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def queue(self) -> str | None:
        """Return the Redis URL of the job queues; None without one (see ``uses_redis``)."""
        if self.queue_url is not None:
            return self.queue_url.get_secret_value()
        if self.redis_host is None:
            return None
        password = self.redis_password.get_secret_value() if self.redis_password else ""
        user = f":{quote(password, safe='')}@" if password else ""
        scheme = "rediss" if self.redis_tls else "redis"
        return f"{scheme}://{user}{self.redis_host}:{self.redis_port}"

    @property
    def uses_redis(self) -> bool:
        """Return whether jobs go through Redis; else they run from the database."""
        return bool(self.redis_sentinels) or self.queue is not None

    @property
    def is_loopback(self) -> bool:
        """Return whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def ehlo_name(self) -> str:
        """Return the name in the greeting of mail servers; an IP address in brackets."""
        if self.smtp_ehlo_name is not None:
            return self.smtp_ehlo_name
        host = self.host if self.public_url is None else urlsplit(self.public_url).hostname or ""
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            return check_mail_host_name(host)
        return f"[IPv6:{ip}]" if ip.version == 6 else f"[{ip}]"

    def clock_offset(self, now: datetime) -> timedelta:
        """Return how far ``HOMEROOM_TEST_CLOCK`` moves the clock; zero where it is unset."""
        return timedelta() if self.test_clock is None else clock_offset(self.test_clock, now)


def env_name(field: str, info: FieldInfo) -> str:
    """Return a field's name in the environment."""
    alias = info.validation_alias
    return alias if isinstance(alias, str) else ENV_PREFIX + field.upper()


def load(**overrides: object) -> Settings:
    """Read the environment; raise ``ConfigurationError`` for invalid settings.

    ``overrides`` (options of a command) override the environment.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        named = [
            (env_name(field, info), field, info) for field, info in Settings.model_fields.items()
        ]
        lines = [describe_fault(fault, named) for fault in error.errors(include_url=False)]
        unknown = unknown_setting_problems(os.environ, known_names(), ENV_PREFIX)
        lines += [f"{each.setting}: there is no such setting" for each in unknown]
        raise ConfigurationError(
            "; ".join(lines) + ".",
            hint="`homeroom docs settings` lists every setting and its format.",
        ) from None


def known_names() -> list[str]:
    """Return the names of all settings in the environment."""
    return [env_name(field, info) for field, info in Settings.model_fields.items()]
