"""The settings of sign-in by school accounts, and their problems."""

from __future__ import annotations

import pytest

from homeroom.errors import ConfigurationError
from homeroom.settings import check, find_setting_problems, load

ISSUER = "https://id.school.example/realms/school/"


def problems(monkeypatch: pytest.MonkeyPatch, **values: str) -> dict[str, str]:
    for name, value in values.items():
        monkeypatch.setenv(f"HOMEROOM_{name}", value)
    return {each.setting: each.severity for each in find_setting_problems(load(), {})}


def test_an_issuer_needs_a_client_and_an_address_to_come_back_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert problems(monkeypatch, OIDC_CLIENT_ID="homeroom") == {
        "HOMEROOM_OIDC_CLIENT_ID": "warning"
    }
    assert problems(monkeypatch, OIDC_ISSUER=ISSUER) == {}
    assert load().oidc_issuer == ISSUER.rstrip("/")
    # It is a way to sign in, so a server that others reach starts with it alone.
    assert problems(monkeypatch, HOST="0.0.0.0") == {"HOMEROOM_PUBLIC_URL": "error"}
    assert problems(monkeypatch, PUBLIC_URL="https://homeroom.school.example") == {}
    assert problems(monkeypatch, OIDC_ISSUER="http://id.school.example") == {
        "HOMEROOM_OIDC_ISSUER": "warning"
    }
    assert problems(monkeypatch, OIDC_ISSUER="http://127.0.0.1:8080", OIDC_CLIENT_ID="") == {
        "HOMEROOM_OIDC_CLIENT_ID": "error"
    }


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "find_spec", lambda name: None)
    monkeypatch.setenv("HOMEROOM_OIDC_ISSUER", ISSUER)
    monkeypatch.setenv("HOMEROOM_OIDC_CLIENT_ID", "homeroom")
    [missing] = find_setting_problems(load(), {})
    assert (missing.setting, missing.severity) == ("HOMEROOM_OIDC_ISSUER", "error")
    assert "homeroom[oidc]" in missing.fix


def test_scopes_have_openid_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEROOM_OIDC_SCOPES", "profile   openid")
    assert load().oidc_scopes == "profile openid"
    monkeypatch.setenv("HOMEROOM_OIDC_SCOPES", "profile")
    with pytest.raises(ConfigurationError, match="HOMEROOM_OIDC_SCOPES"):
        load()
