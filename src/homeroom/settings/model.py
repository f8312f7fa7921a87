"""The settings, their forms, and how they are read from the environment."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime, timedelta
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from homeroom.errors import ConfigurationError

PREFIX = "HOMEROOM_"
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w)?")
_UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, None: 1}


def parse_duration(text: object) -> object:
    """Return ``30``, ``30s``, ``500ms``, ``5m``, ``12h``, ``90d`` or ``2w`` as a span of time.

    A bare number is in seconds. Raises ValueError for anything else; passes a timedelta through.
    """
    if isinstance(text, timedelta):
        return text
    found = _DURATION.fullmatch(str(text).strip().lower())
    if found is None:
        raise ValueError("write a duration as 30, 30s, 500ms, 5m, 12h, 90d or 2w")
    return timedelta(seconds=float(found[1]) * _UNIT_SECONDS[found[2]])


def _http_url(text: object) -> object:
    parts = urlsplit(str(text))
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("write a whole URL, such as https://partner.example/hook")
    return str(text).rstrip("/")


def _redis_url(text: object) -> object:
    value = text.get_secret_value() if isinstance(text, SecretStr) else str(text)
    try:
        parts = urlsplit(value)
        good = parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ValueError("write redis://:password@host:6379/0, or rediss://... for TLS")
    return text


def _places(text: object) -> object:
    """Return ``one:26379,two`` as host and port pairs; 26379 is the port of Sentinels."""
    if not isinstance(text, str):
        return text
    found = []
    for part in filter(None, (each.strip() for each in text.split(","))):
        parts = urlsplit(f"//{part}")
        if not parts.hostname or parts.path:
            raise ValueError("write hosts and ports as sentinel-1:26379,sentinel-2:26379")
        found.append(f"{parts.hostname}:{parts.port or 26_379}")
    return tuple(found)


def _test_clock(text: object) -> object:
    sign_less = str(text).lstrip("+-")
    if _DURATION.fullmatch(sign_less) is None and datetime.fromisoformat(str(text)).tzinfo is None:
        raise ValueError("write an instant as 2026-11-23T09:00:00Z, or a shift as 90d or -2h")
    return text


def _mailbox(text: object) -> object:
    address = parseaddr(str(text))[1]
    local, _, domain = address.rpartition("@")
    if not local or "." not in domain or any(letter in str(text) for letter in "\r\n"):
        raise ValueError("write a mailbox, such as Homeroom <homeroom@example.org>")
    return text


def _origins(text: object) -> object:
    if not isinstance(text, str):
        return text
    found = tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())
    for each in found:
        parts = urlsplit(each)
        whole = parts.scheme in {"http", "https"} and each == f"{parts.scheme}://{parts.netloc}"
        if each != "*" and not (whole and parts.netloc):
            raise ValueError(f"write an origin as https://learn.example.org, and not {each}")
    return found


def _retention_of_events(span: timedelta) -> timedelta:
    if span < timedelta(days=90):
        raise ValueError(
            "keep events for at least 90d, or leave it unset to keep them for good: clients send "
            "again for up to 30 days, restored phones for longer, and an event whose id is gone "
            "counts twice"
        )
    return span


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
EventRetention = Annotated[Duration, AfterValidator(_retention_of_events)]
HttpUrl = Annotated[str, BeforeValidator(_http_url)]
RedisUrl = Annotated[SecretStr, BeforeValidator(_redis_url)]
Places = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_places)]
Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)]


class Server(BaseModel):
    """Server."""

    data_dir: Path = Field(Path("var"), description="Folder of the database file and other data.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8420, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    processes: int = Field(
        1, ge=1, le=64, description="API processes that share the port; several need PostgreSQL."
    )
    public_url: HttpUrl | None = Field(
        None, description="How others reach this server. Unset: `http://{host}:{port}`."
    )
    cors_origins: Origins = Field(
        (), description="Origins whose pages may call the API, separated by commas; `*` for all."
    )
    max_body_bytes: int = Field(
        1024 * 1024, ge=1024, description="Largest request body; a larger one is answered with 413."
    )
    shutdown_grace: Duration = Field(
        timedelta(seconds=25), description="How long a stop waits for running requests and jobs."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="How much is logged."
    )
    log_format: Literal["json", "console"] | None = Field(
        None, description="Unset: `console` on a terminal, else `json`."
    )
    health_check_interval: Duration = Field(
        timedelta(seconds=60),
        description="How often background parts look after themselves (`healthCheckInterval`).",
    )
    test_clock: Annotated[str, BeforeValidator(_test_clock)] | None = Field(
        None, description="Moves the clock to an instant or by a span; for the demo and tests only."
    )


class Storage(BaseModel):
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
    redis_sentinels: Places = Field(
        (),
        description="Sentinels that know where Redis is, as `host:port,host:port`; in place of "
        "the URL, with `REDIS_PASSWORD`.",
    )
    redis_sentinel_name: str = Field("mymaster", description="What the Sentinels call the server.")
    redis_sentinel_password: SecretStr | None = Field(
        None, description="Password of the Sentinels themselves."
    )
    redis_tls: bool = Field(
        False, description="TLS with `REDIS_HOST`, or with Sentinels and what they name."
    )
    redis_ca_file: Path | None = Field(
        None, description="Who signed Redis's certificate. Unset: whom the system trusts."
    )
    worker_port: int | None = Field(
        None,
        ge=0,
        le=65_535,
        description="Port where `homeroom worker` answers probes and `/metrics`. Unset: none.",
    )
    concurrency: int = Field(
        3, ge=1, le=1_000, description="Jobs of one queue that run at once (`maxConcurrency`)."
    )
    job_lease: Duration = Field(
        timedelta(seconds=30), description="How long a silent worker keeps its jobs to itself."
    )
    jobs_keep_completed: int = Field(100, ge=0, description="Completed jobs kept, per queue.")
    jobs_keep_failed: int = Field(200, ge=0, description="Failed jobs kept, per queue.")
    jobs_keep_for: Duration | None = Field(
        None, description="Age at which finished jobs go. Unset: only their number counts."
    )
    audit_retention: Duration | None = Field(
        None, description="Age at which audit lines go. Unset: kept for good."
    )


class Ingest(BaseModel):
    """Progress ingest."""

    ingest_max_queue: int = Field(
        100_000, ge=1, description="Events that may wait; more get 429 (`maxQueueSize`)."
    )
    ingest_max_batch: int = Field(
        5_000, ge=1, description="Events in one commit at most (`batchSize`)."
    )
    ingest_max_retries: int = Field(
        3, ge=0, description="Further tries of a commit while the database is away (`maxRetries`)."
    )
    ingest_retry_delay: Duration = Field(
        timedelta(seconds=1), description="Pause between these tries (`retryDelay`)."
    )
    ingest_task_timeout: Duration = Field(
        timedelta(seconds=30),
        description="A commit that hangs longer is stopped (`taskTimeout`).",
    )
    quarantine_ttl: Duration = Field(
        timedelta(days=30), description="Age at which events of unknown courses go (`ttl`)."
    )
    event_retention: EventRetention | None = Field(
        None,
        description="Age at which events are folded into what they add up to, 90 days or more; one"
        " that is sent again after that counts twice. Unset: kept for good.",
    )


class Access(BaseModel):
    """Access."""

    admin_key: SecretStr | None = Field(
        None, description="A token that may do all; at least 16 characters."
    )
    jwt_secret: SecretStr | None = Field(
        None, description="Secret of HS256 tokens; at least 32 bytes."
    )
    jwt_jwks_url: HttpUrl | None = Field(
        None, description="Where the public keys of RS256, ES256 and EdDSA tokens are."
    )
    jwt_issuer: str | None = Field(None, description="Required `iss` of tokens. Unset: any.")
    jwt_audience: str | None = Field(None, description="Required `aud` of tokens. Unset: any.")
    session_lifetime: Duration = Field(
        timedelta(hours=12), description="How long a sign-in to the dashboard lasts."
    )


class Partners(BaseModel):
    """Partners. An unset one is a step `skipped`, never reported as done."""

    enable_credentials: bool = Field(
        True, validation_alias="ENABLE_CREDENTIALS", description="Whether credentials are issued."
    )
    directory_url: HttpUrl | None = Field(
        None, description="Where people's addresses are. Unset: the built-in directory."
    )
    directory_token: SecretStr | None = Field(None, description="Bearer token of the directory.")
    assessment_url: HttpUrl | None = Field(
        None,
        description="Where credentials' scores are. Unset: the course's own quiz scores.",
    )
    assessment_token: SecretStr | None = Field(None, description="Bearer token of the assessment.")
    credly_url: HttpUrl | None = Field(
        None, description="Credly's API, such as `https://api.credly.com/v1`."
    )
    credly_organization: str | None = Field(None, description="The organization's id at Credly.")
    credly_token: SecretStr | None = Field(None, description="API token of Credly.")
    analytics_url: HttpUrl | None = Field(None, description="Webhook that gets finished courses.")
    xapi_url: HttpUrl | None = Field(None, description="Learning record store; not used yet.")
    hr_url: HttpUrl | None = Field(None, description="Webhook that gets training records.")
    webhook_secret: SecretStr | None = Field(
        None, description="Signs webhooks: `whsec_` and base64 of 24 to 64 bytes."
    )


class LanguageModel(BaseModel):
    """Language model. Without one, lesson plans are written by rule."""

    llm_model: str | None = Field(
        None, description="Model that writes lesson plans. Unset: they are written by rule."
    )
    llm_kind: Literal["openai", "anthropic", "google"] = Field(
        "openai", description="What its API looks like; `openai` is what most servers speak."
    )
    llm_url: HttpUrl | None = Field(
        None, description="Its API, such as `http://127.0.0.1:11434/v1`. Unset: the provider's own."
    )
    llm_api_key: SecretStr | None = Field(None, description="Key of that API.")
    llm_output: Literal["native", "tool", "prompted"] | None = Field(
        None,
        description="How JSON is asked for. Unset: `tool` with `anthropic`, else `native`.",
    )
    llm_max_tokens: int = Field(
        6_000, ge=256, le=200_000, description="Tokens that one answer may have."
    )
    llm_timeout: Duration = Field(
        timedelta(seconds=120), description="How long one call may take, all of it."
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
        description="What one plan may cost; a call that might cost more is not made.",
    )
    llm_currency: str = Field(
        "USD", pattern="^[A-Z]{3}$", description="Currency of budget and prices (ISO 4217)."
    )
    llm_price_input: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Price of a million input tokens. Unset: a list of published prices.",
    )
    llm_price_output: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Price of a million output tokens."
    )
    llm_retries: int = Field(
        3, ge=0, le=20, description="Further tries of a module whose model fails."
    )
    llm_retry_delay: Duration = Field(
        timedelta(minutes=1),
        description="Longest wait before the first of these; it doubles with each.",
    )


class Messages(BaseModel):
    """Messages to people. The inbox needs no setting; an unset channel is `skipped`."""

    smtp_url: SecretStr | None = Field(
        None,
        description="Mail server: `smtp://user:password@host:587` (STARTTLS) or `smtps://host`.",
    )
    mail_from: Annotated[str, BeforeValidator(_mailbox)] | None = Field(
        None, description="Sender of mails, such as `Homeroom <homeroom@example.org>`."
    )
    mail_reply_to: Annotated[str, BeforeValidator(_mailbox)] | None = Field(
        None, description="Where answers to mails go. Unset: to the sender."
    )
    mail_return_path: Annotated[str, BeforeValidator(_mailbox)] | None = Field(
        None, description="Where bounces of mails go. Unset: to the sender."
    )
    email_hook_secret: SecretStr | None = Field(
        None, description="Verifies `POST /hooks/email/{provider}`: `whsec_` and base64."
    )
    sms_url: SecretStr | None = Field(
        None, description="Apprise URL of an SMS service, with `{address}` for the number."
    )
    chat_url: SecretStr | None = Field(
        None, description="Apprise URL of a chat service, with `{address}` for the name."
    )
    template_dir: Path | None = Field(
        None, description="Folder of templates that go before the built-in ones."
    )
    notification_retention: Duration = Field(
        timedelta(days=180),
        description="How long what messages said is kept. Their keys stay 400 days or longer.",
    )


GROUPS: tuple[type[BaseModel], ...] = (
    Server,
    Storage,
    Ingest,
    Access,
    Partners,
    LanguageModel,
    Messages,
)


class Settings(Server, Storage, Ingest, Access, Partners, LanguageModel, Messages, BaseSettings):
    """All settings. Use ``load``, which says what is wrong in words."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,  # a wrong secret must not end up in a log
    )

    @property
    def database(self) -> str:
        """Return the database's URL, the default one where none is set."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir.resolve() / 'homeroom.db'}"

    @property
    def database_place(self) -> Path | str:
        """Return where the data is: a SQLite file, or the URL of a PostgreSQL database.

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
        """Say whether the data is in a file of this machine, which nobody else looks after."""
        return isinstance(self.database_place, Path)

    @property
    def database_name(self) -> str:
        """Return where the data is, for people: without user, password and options."""
        place = self.database_place
        if isinstance(place, Path):
            return str(place)
        try:
            parts = urlsplit(place)
        except ValueError:  # what is wrong with it is said when it is opened
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
        """Say whether jobs go through Redis; else they run from the database."""
        return bool(self.redis_sentinels) or self.queue is not None

    @property
    def is_loopback(self) -> bool:
        """Say whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def clock_offset(self, now: datetime) -> timedelta:
        """Return how far ``HOMEROOM_TEST_CLOCK`` moves the clock; zero where it is unset."""
        text = self.test_clock
        if text is None:
            return timedelta()
        if _DURATION.fullmatch(text.lstrip("+-")):
            span = parse_duration(text.lstrip("+-"))
            assert isinstance(span, timedelta)
            return -span if text.startswith("-") else span
        return datetime.fromisoformat(text).astimezone(UTC) - now


def env_name(field: str, info: FieldInfo) -> str:
    """Return a field's name in the environment."""
    alias = info.validation_alias
    return alias if isinstance(alias, str) else PREFIX + field.upper()


def load(**given: object) -> Settings:
    """Read the environment; raise ``ConfigurationError`` that names each wrong setting.

    ``given`` values (options of a command) go before the environment's.
    """
    try:
        return Settings(**given)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        lines = []
        for fault in error.errors(include_url=False, include_input=False, include_context=False):
            place = str(fault["loc"][0]) if fault["loc"] else ""
            info = Settings.model_fields.get(place)
            name = env_name(place, info) if info is not None else place
            what = fault["msg"].removeprefix("Value error, ")
            lines.append(f"{name}: {what}" if name else what)
        raise ConfigurationError(
            "; ".join(lines) + ".", hint="docs/settings.md lists every setting and its form."
        ) from None
