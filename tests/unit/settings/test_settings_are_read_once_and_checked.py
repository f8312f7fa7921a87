"""Settings: formats, defaults, problems with their fixes, hidden secrets."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from homeroom.errors import ConfigurationError
from homeroom.settings import Settings, check, find_setting_problems, list_settings, load
from homeroom.settings.field_types import parse_duration
from homeroom.settings.listing import render_settings_page

ROOT = Path(__file__).parents[3]
BARE = ("REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD", "ENABLE_CREDENTIALS")
GOOD_WEBHOOK_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


@pytest.fixture(autouse=True)
def _empty_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in BARE:
        monkeypatch.delenv(name, raising=False)


def read(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    for name, value in values.items():
        bare = name in BARE
        monkeypatch.setenv(name if bare else f"HOMEROOM_{name}", value)
    return load()


def severities(settings: Settings) -> dict[str, str]:
    return {problem.setting: problem.severity for problem in find_setting_problems(settings, {})}


def test_the_defaults_work_on_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch)
    assert (settings.host, settings.port, settings.concurrency) == ("127.0.0.1", 8420, 3)
    assert settings.database_location == Path.cwd() / "var" / "homeroom.db"
    assert settings.queue is None
    assert settings.enable_credentials
    assert find_setting_problems(settings, {}) == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("30s", 30),
        ("1.5s", 1.5),
        ("500ms", 0.5),
        ("5m", 300),
        ("12h", 43_200),
        ("90d", 7_776_000),
        ("2w", 1_209_600),
    ],
)
def test_a_duration_has_many_forms(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "-5", "5 minutes", "1h30m", "soon", "\u0661"])
def test_an_invalid_duration_names_its_setting(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if text == "":
        assert read(monkeypatch, INGEST_TASK_TIMEOUT=text).ingest_task_timeout.seconds == 30
        return
    with pytest.raises(ConfigurationError, match="HOMEROOM_INGEST_TASK_TIMEOUT") as raised:
        read(monkeypatch, INGEST_TASK_TIMEOUT=text)
    assert "90d" in raised.value.message


def test_a_duration_that_would_stop_or_delete_everything_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Each duration is tried with 0: an interval would spin, a lease never hold, an age of 0 means
    # "never" to its writer and would delete everything. Those that may be 0 are named here.
    may_be_zero = {"SHUTDOWN_GRACE", "INGEST_RETRY_DELAY", "LLM_RETRY_DELAY"}
    durations = {
        name.upper()
        for name, info in Settings.model_fields.items()
        if "timedelta" in str(info.annotation) and not name.endswith("_delays")
    }
    assert may_be_zero < durations
    assert len(durations) == 15
    for name in durations:
        with monkeypatch.context() as patch:
            if name in may_be_zero:
                assert getattr(read(patch, **{name: "0"}), name.lower()) == timedelta()
            else:
                with pytest.raises(ConfigurationError, match=f"HOMEROOM_{name}"):
                    read(patch, **{name: "0"})
        with (
            monkeypatch.context() as patch,
            pytest.raises(ConfigurationError, match=f"HOMEROOM_{name}: write 36500d or less"),
        ):
            read(patch, **{name: "99999999999d"})


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("ISSUER_COLOUR", "blue", "such as #1f4e79, not 'blue'"),
        ("SCHOOL_COLOUR", "#ffff", "such as #1f4e79, not '#ffff'"),
        ("LLM_CURRENCY", "Euro", "such as EUR, not 'Euro'"),
        ("CORS_ORIGINS", "learn.example.org", "https://learn.example.org, with the scheme"),
        ("PUBLIC_URL", "school.example", "such as https://homeroom.example.org"),
    ],
)
def test_a_wrong_format_is_explained_by_an_example(
    name: str, wrong: str, right: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match=f"HOMEROOM_{name}: write ") as raised:
        read(monkeypatch, **{name: wrong})
    assert right in raised.value.message
    assert "^" not in raised.value.message


def test_a_file_in_place_of_the_data_folder_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    [problem] = find_setting_problems(read(monkeypatch, DATA_DIR=str(tmp_path / "file")), {})
    assert (problem.setting, problem.severity) == ("HOMEROOM_DATA_DIR", "error")
    assert "is a file" in problem.message
    assert "write access" not in problem.fix


def test_a_file_that_is_no_signing_key_is_a_problem_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key.pem"
    settings = read(monkeypatch, CREDENTIAL_KEY_FILE=str(file))
    kinds = {
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
        "rsa": rsa.generate_private_key(65_537, 2_048),
    }
    plain = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for text, severity in (
        (kinds["ed25519"].private_bytes(*plain), None),
        (kinds["rsa"].private_bytes(*plain), "error"),
        (b"-----BEGIN PRIVATE KEY-----\nAA\xff=\n-----END PRIVATE KEY-----", "error"),
        (b"root:x:0:0", "error"),
    ):
        file.write_bytes(text)
        found = severities(settings).get("HOMEROOM_CREDENTIAL_KEY_FILE")
        assert found == severity, text


def test_waits_are_a_list_of_durations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEROOM_HR_RETRY_DELAYS", "5s, 2m")
    assert load().hr_retry_delays == (timedelta(seconds=5), timedelta(minutes=2))
    for wrong in (" , ", "5s,soon"):
        monkeypatch.setenv("HOMEROOM_HR_RETRY_DELAYS", wrong)
        with pytest.raises(ConfigurationError, match="HOMEROOM_HR_RETRY_DELAYS"):
            load()


def test_all_invalid_settings_are_named_at_once_with_values_that_are_not_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(
            monkeypatch,
            PORT="80800",
            CONCURRENCY="many",
            HR_URL="swordfish",
            JWT_SECRET="swordfish",
            ENABLE_CREDENTIALS="perhaps",
            PROCESES="2",
        )
    message = raised.value.message
    assert "HOMEROOM_PORT: write 65535 or less, not '80800'" in message
    assert "HOMEROOM_CONCURRENCY: write a whole number, not 'many'" in message
    assert "ENABLE_CREDENTIALS: write true or false, not 'perhaps'" in message
    assert "HOMEROOM_PROCESES: there is no such setting" in message
    assert "HOMEROOM_HR_URL" in message
    assert "swordfish" not in message


def test_events_are_compacted_after_90_days_at_the_earliest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read(monkeypatch).event_retention is None
    assert read(monkeypatch, EVENT_RETENTION="90d").event_retention == timedelta(days=90)
    assert read(monkeypatch, EVENT_RETENTION="52w").event_retention == timedelta(weeks=52)
    for short in ("89d", "2159h", "0", "90"):
        with pytest.raises(ConfigurationError, match="HOMEROOM_EVENT_RETENTION") as raised:
            read(monkeypatch, EVENT_RETENTION=short)
        assert "at least 90d" in raised.value.message
        assert "send again for up to 30 days" in raised.value.message


def test_redis_may_be_set_by_a_url_or_by_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, REDIS_HOST="cache", REDIS_PORT="6380", REDIS_PASSWORD="p@ss/")
    assert settings.queue == "redis://:p%40ss%2F@cache:6380"
    assert severities(settings) == {}
    settings = read(monkeypatch, REDIS_TLS="true")
    assert settings.queue == "rediss://:p%40ss%2F@cache:6380"
    settings = read(monkeypatch, QUEUE_URL="redis://other:1")
    assert settings.queue == "redis://other:1"
    assert severities(settings) == {"HOMEROOM_QUEUE_URL": "warning", "HOMEROOM_REDIS_TLS": "error"}


@pytest.mark.parametrize("url", ["http://cache", "redis://", "redis://cache:port", "cache:6379"])
def test_an_invalid_redis_url_is_rejected_and_not_shown(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="HOMEROOM_QUEUE_URL: write redis://") as raised:
        read(monkeypatch, QUEUE_URL=f"{url}?swordfish")
    assert "swordfish" not in raised.value.message


def test_sentinels_replace_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, REDIS_SENTINELS="one:5000, two,[::1]:7")
    assert settings.redis_sentinels == ("one:5000", "two:26379", "::1:7")
    assert settings.uses_redis
    assert severities(settings) == {}
    settings = read(monkeypatch, QUEUE_URL="rediss://cache", REDIS_CA_FILE="nowhere.pem")
    assert severities(settings) == {
        "HOMEROOM_QUEUE_URL": "error",
        "HOMEROOM_REDIS_CA_FILE": "error",
    }
    with pytest.raises(ConfigurationError, match="HOMEROOM_REDIS_SENTINELS: write hosts and ports"):
        read(monkeypatch, REDIS_SENTINELS="one:5000/0")


def test_a_missing_extra_is_reported_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = read(monkeypatch, QUEUE_URL="redis://cache")
    assert find_setting_problems(settings, {}) == []
    monkeypatch.setattr(check, "find_spec", lambda name: None)
    [missing] = find_setting_problems(settings, {})
    assert (missing.setting, missing.severity) == ("HOMEROOM_QUEUE_URL", "error")
    assert "homeroom[redis]" in missing.fix


def test_the_database_is_a_file_or_a_postgresql_server(monkeypatch: pytest.MonkeyPatch) -> None:
    absolute = read(monkeypatch, DATABASE_URL="sqlite:////srv/h.db")
    assert absolute.database_location == Path("/srv/h.db")
    assert (absolute.database_name, absolute.is_embedded) == ("/srv/h.db", True)
    url = "postgresql://bo:swordfish@db.school.example:6432/homeroom?sslmode=verify-full"
    server = read(monkeypatch, DATABASE_URL=url)
    assert (server.database_location, server.is_embedded) == (url, False)
    assert server.database_name == "postgresql://db.school.example:6432/homeroom"
    assert severities(server) == {}


@pytest.mark.parametrize("url", ["mysql://db/homeroom", "homeroom.db", "sqlite://", "sqlite:///"])
def test_a_database_of_another_kind_is_a_problem(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert severities(read(monkeypatch, DATABASE_URL=url)) == {"HOMEROOM_DATABASE_URL": "error"}


def test_several_processes_need_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEROOM_PROCESSES", "4")
    [found] = [
        each for each in find_setting_problems(load(), {}) if each.setting == "HOMEROOM_PROCESSES"
    ]
    assert found.severity == "error"
    assert "UPGRADE.md" in found.fix
    assert not [
        each
        for each in find_setting_problems(load(processes=1), {})
        if each.setting == "HOMEROOM_PROCESSES"
    ]


def test_a_server_on_a_public_address_needs_a_way_to_sign_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert severities(read(monkeypatch, HOST="0.0.0.0")) == {"HOMEROOM_HOST": "error"}
    assert severities(read(monkeypatch, HOST="0.0.0.0", ADMIN_KEY="x" * 16)) == {}
    for loopback in ("localhost", "127.0.0.5", "::1"):
        monkeypatch.delenv("HOMEROOM_ADMIN_KEY", raising=False)
        assert severities(read(monkeypatch, HOST=loopback)) == {}


def test_weak_secrets_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    weak = read(monkeypatch, ADMIN_KEY="tiny-key", JWT_SECRET="x" * 31, WEBHOOK_SECRET="whsec_abc")
    assert severities(weak) == {
        "HOMEROOM_ADMIN_KEY": "error",
        "HOMEROOM_JWT_SECRET": "error",
        "HOMEROOM_WEBHOOK_SECRET": "error",
    }
    assert "tiny-key" not in repr(find_setting_problems(weak, {}))
    strong = read(
        monkeypatch,
        ADMIN_KEY="x" * 16,
        JWT_SECRET="x" * 32,
        WEBHOOK_SECRET=GOOD_WEBHOOK_SECRET,
    )
    assert severities(strong) == {}


@pytest.mark.parametrize(
    "secret", ["C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_", "whsec_!!!!" + "A" * 40, "whsec_AA=="]
)
def test_a_malformed_webhook_secret_is_an_error(
    secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = read(monkeypatch, WEBHOOK_SECRET=secret)
    assert severities(settings) == {"HOMEROOM_WEBHOOK_SECRET": "error"}


def test_each_receiver_of_webhooks_has_a_secret_of_its_own_and_two_while_one_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = GOOD_WEBHOOK_SECRET, "whsec_" + "B" * 32
    settings = read(monkeypatch, WEBHOOK_SECRET=old, HR_WEBHOOK_SECRET=f"{new} {old}")
    assert settings.webhook_secrets("analytics") == (old,)
    assert settings.webhook_secrets("hr") == (new, old)
    assert severities(settings) == {}
    three = read(monkeypatch, HR_WEBHOOK_SECRET=f"{new} {old} {old}")
    assert severities(three) == {"HOMEROOM_HR_WEBHOOK_SECRET": "error"}
    monkeypatch.delenv("HOMEROOM_WEBHOOK_SECRET")
    alone = read(
        monkeypatch,
        HR_WEBHOOK_SECRET=new,
        HR_URL="https://hr.example/hook",
        ANALYTICS_URL="https://analytics.example/hook",
    )
    [problem] = [each for each in find_setting_problems(alone, {}) if each.severity == "error"]
    assert problem.setting == "HOMEROOM_WEBHOOK_SECRET"
    assert "HOMEROOM_ANALYTICS_URL is set" in problem.message


def test_a_partner_needs_all_of_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(
        monkeypatch,
        CREDLY_URL="https://api.credly.example/v1/",
        HR_URL="https://hr.example/hook",
        DIRECTORY_TOKEN="t",
    )
    assert settings.credly_url == "https://api.credly.example/v1"
    assert severities(settings) == {
        "HOMEROOM_CREDLY_ORGANIZATION": "error",
        "HOMEROOM_CREDLY_TOKEN": "error",
        "HOMEROOM_WEBHOOK_SECRET": "error",
        "HOMEROOM_DIRECTORY_TOKEN": "warning",
    }


def test_a_folder_that_cannot_be_created_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    settings = read(monkeypatch, DATA_DIR=str(tmp_path / "file" / "var"))
    assert severities(settings) == {"HOMEROOM_DATA_DIR": "error"}
    if os.geteuid() != 0:
        tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
        settings = read(monkeypatch, DATA_DIR=str(tmp_path / "var"))
        assert severities(settings) == {"HOMEROOM_DATA_DIR": "error"}


def test_a_misspelt_setting_is_a_warning_with_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_setting_problems(
        read(monkeypatch), {"HOMEROOM_INGEST_MAXQUEUE": "5", "PATH": "/bin"}
    )
    assert [(problem.setting, problem.severity) for problem in found] == [
        ("HOMEROOM_INGEST_MAXQUEUE", "warning")
    ]
    assert "HOMEROOM_INGEST_MAX_QUEUE?" in found[0].fix
    [far] = find_setting_problems(read(monkeypatch), {"HOMEROOM_COLOUR": "red"})
    assert "mean" not in far.fix


def test_the_test_clock_moves_to_an_instant_or_by_a_duration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = datetime(2026, 11, 22, 9, tzinfo=UTC)
    assert read(monkeypatch).clock_offset(now) == timedelta()
    for text, offset in (
        ("90d", timedelta(days=90)),
        ("+2h", timedelta(hours=2)),
        ("-2h", timedelta(hours=-2)),
        ("2026-11-23T09:00:00Z", timedelta(days=1)),
        ("2026-11-22T09:00:00+01:00", timedelta(hours=-1)),
    ):
        assert read(monkeypatch, TEST_CLOCK=text).clock_offset(now) == offset
    for wrong in ("tomorrow", "2026-11-23T09:00:00"):
        with pytest.raises(ConfigurationError, match="HOMEROOM_TEST_CLOCK"):
            read(monkeypatch, TEST_CLOCK=wrong)


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(
        monkeypatch,
        ADMIN_KEY="swordfish-admin",
        REDIS_PASSWORD="swordfish-redis",
        DATABASE_URL="sqlite:///swordfish.db",
        HR_URL="https://user:swordfish@hr.example/hook",
        CORS_ORIGINS="https://a.example/, https://b.example",
    )
    rows = {row.name: row for row in list_settings(settings)}
    assert "swordfish" not in repr(rows)
    assert "swordfish" not in repr(settings.admin_key)
    assert rows["HOMEROOM_ADMIN_KEY"].is_set
    assert rows["HOMEROOM_ADMIN_KEY"].secret
    assert not rows["HOMEROOM_JWT_SECRET"].is_set
    assert rows["HOMEROOM_HR_URL"].value == "https://user:********@hr.example/hook"
    assert rows["HOMEROOM_CORS_ORIGINS"].value == "https://a.example,https://b.example"


def test_every_setting_is_described_on_the_page() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    page = (ROOT / "docs" / "settings.md").read_text()
    assert page == render_settings_page(), (
        "regenerate it: python -m homeroom.settings > docs/settings.md"
    )


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("school.toml", b'colour = "red"'),
        ("school.toml", b'color = "#ff0000"'),
        ("school.toml", b"name = Lab"),
        ("school.toml", b'name = "\xff"'),
        ("school.toml", b'reply_to = "lab"'),
        ("school.toml", b'programme_link = "https://x.example/{course}"'),
        ("school.toml", b'facilitator_link = "javascript:alert(1)"'),
        ("logo.png", b"<svg></svg>"),
        ("logo.jpg", b"\xff\xd8\xff" + bytes(100 * 1024)),
    ],
)
def test_faulty_files_of_a_programme_are_problems(
    file: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "programmes" / "data"
    folder.mkdir(parents=True)
    settings = read(monkeypatch, TEMPLATE_DIR=str(tmp_path))
    assert severities(settings) == {}
    (folder / file).write_bytes(content)
    assert severities(settings) == {"HOMEROOM_TEMPLATE_DIR": "error"}


def test_a_logo_in_mails_has_a_format_that_mail_programs_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logo = tmp_path / "logo.svg"
    logo.write_text("<svg></svg>")
    settings = read(monkeypatch, SCHOOL_LOGO=str(logo))
    assert severities(settings) == {"HOMEROOM_SCHOOL_LOGO": "error"}
    logo.unlink()
    assert severities(settings) == {"HOMEROOM_SCHOOL_LOGO": "error"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"SMTP_URL": "smtp://mail.example.org"}, {"HOMEROOM_MAIL_FROM": "error"}),
        ({"SMTP_URL": "mail.example.org"}, {"HOMEROOM_SMTP_URL": "error"}),
        ({"SMTP_URL": "smtp://mail.example.org?tls=none"}, {"HOMEROOM_SMTP_URL": "warning"}),
        ({"SMTP_URL": "smtp://u:p@mail.example.org?tls=none"}, {"HOMEROOM_SMTP_URL": "error"}),
        ({"SMTP_URL": "smtp://u:p@localhost?tls=none"}, {}),
        ({"EMAIL_HOOK_SECRET": "short"}, {"HOMEROOM_EMAIL_HOOK_SECRET": "error"}),
        ({"TEMPLATE_DIR": "/nowhere/at/all"}, {"HOMEROOM_TEMPLATE_DIR": "error"}),
        (
            {"SMTP_URL": "smtp://mail.example.org", "PUBLIC_URL": ""},
            {"HOMEROOM_PUBLIC_URL": "warning"},
        ),
        (
            {"SMTP_URL": "smtp://mail.example.org", "PUBLIC_URL": "http://127.0.0.1:8420"},
            {"HOMEROOM_SMTP_EHLO_NAME": "warning"},
        ),
        (
            {"SMTP_URL": "smtp://mail.example.org", "SMTP_EHLO_NAME": "localhost.localdomain"},
            {"HOMEROOM_SMTP_EHLO_NAME": "warning"},
        ),
    ],
)
def test_settings_that_prevent_messages_are_problems(
    given: dict[str, str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = {} if "HOMEROOM_MAIL_FROM" in expected else {"MAIL_FROM": "Homeroom <h@example.org>"}
    settings = read(monkeypatch, **{"PUBLIC_URL": "https://h.example.org", **given, **sender})
    assert severities(settings) == expected


@pytest.mark.parametrize("text", ["Homeroom", "h@localhost", "a@b.example\r\nBcc: x@y.example"])
def test_a_sender_is_a_mailbox(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="HOMEROOM_MAIL_FROM"):
        read(monkeypatch, MAIL_FROM=text)


@pytest.mark.parametrize(
    "text", ["example.org", "https://example.org/app", "https://", "ftp://x.y"]
)
def test_an_origin_is_a_scheme_and_a_host(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="HOMEROOM_CORS_ORIGINS"):
        read(monkeypatch, CORS_ORIGINS=f"https://a.example, {text}")
    assert read(monkeypatch, CORS_ORIGINS="*").cors_origins == ("*",)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"PUBLIC_URL": "https://h.example.org:8443/x"}, "h.example.org"),
        ({"PUBLIC_URL": "https://lernhaus.müller.example"}, "lernhaus.xn--mller-kva.example"),
        ({"PUBLIC_URL": "https://[2001:db8::1]:8443"}, "[IPv6:2001:db8::1]"),
        (
            {"PUBLIC_URL": "https://h.example.org", "SMTP_EHLO_NAME": "out.example.org"},
            "out.example.org",
        ),
        ({"HOST": "192.0.2.7"}, "[192.0.2.7]"),
    ],
)
def test_mail_servers_are_greeted_with_the_public_name(
    given: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read(monkeypatch, **given).ehlo_name == expected


def test_files_of_credentials_have_to_be_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    large = tmp_path / "logo.png"
    large.write_bytes(b"x" * (1024 * 1024 + 1))
    found = severities(
        read(
            monkeypatch,
            CREDENTIAL_KEY_FILE=str(tmp_path / "key.pem"),
            CREDENTIAL_ALLOW_HTTP="true",
            ISSUER_LOGO=str(large),
            ISSUER_SIGNATURE=str(tmp_path / "signature.svg"),
            ISSUER_FONTS=str(large),
            HOST="0.0.0.0",
            ADMIN_KEY="x" * 16,
        )
    )
    assert found == {
        f"HOMEROOM_{name}": "error"
        for name in (
            "CREDENTIAL_KEY_FILE",
            "CREDENTIAL_ALLOW_HTTP",
            "ISSUER_LOGO",
            "ISSUER_SIGNATURE",
            "ISSUER_FONTS",
        )
    }


def test_any_setting_of_credly_leaves_issuing_to_credly(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not load().uses_credly
    assert read(monkeypatch, CREDLY_TOKEN="token").uses_credly
