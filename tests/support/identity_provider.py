"""An independent identity provider: panva's oidc-provider in Node, in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.missing_server import skip_or_fail
from tools.servers.debian import Missing
from tools.servers.node import installed

HERE = Path(__file__).parents[1] / "service" / "identity_provider"
CLIENT_SECRET = "s3cret/of+homeroom:%20"
"""With characters that a header may write in two ways."""
CLIENTS = [
    {
        "client_id": "homeroom",
        "client_secret": CLIENT_SECRET,
        "token_endpoint_auth_method": "client_secret_post",
        "redirect_uris": ["http://127.0.0.1:1/sign-in/oidc/callback"],
    },
    {
        "client_id": "homeroom-public",
        "token_endpoint_auth_method": "none",
        "redirect_uris": ["http://127.0.0.1:1/sign-in/oidc/callback"],
    },
]
ACCOUNTS: dict[str, dict[str, Any]] = {
    "u-fay": {"preferred_username": "fay", "groups": ["teacher"], "email": "fay@school.example"},
    "u-max": {
        "preferred_username": "max",
        "groups": ["staff", "lunch"],
        "email": "max@school.example",
        "email_verified": True,
    },
    "u-nil": {"preferred_username": "nil", "groups": ["lunch"]},
}
SETTINGS = {
    "HOMEROOM_OIDC_CLIENT_ID": "homeroom",
    "HOMEROOM_OIDC_CLIENT_SECRET": CLIENT_SECRET,
    "HOMEROOM_OIDC_SCOPES": "openid profile email roles",
    "HOMEROOM_JWT_ROLES_CLAIM": "groups",
    "HOMEROOM_JWT_ROLE_MAP": "teacher=facilitator,staff=manager",
}


@dataclass
class IdentityProvider:
    """The running provider."""

    issuer: str
    process: subprocess.Popen[str]

    def order(self, **changes: Any) -> None:
        """Change the provider, and wait until it has."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(changes), file=self.process.stdin, flush=True)
        # The package prints notices of its own between the answers.
        assert any(line == "ok\n" for line in self.process.stdout), "the provider has ended"

    def stop(self) -> None:
        """Take the provider away."""
        self.process.kill()
        self.process.wait()

    def sign_in(self, browser: httpx.Client, url: str, account: str | None) -> httpx.Response:
        """Follow an authorization request to the response that leads back to Homeroom.

        ``account`` None cancels at the form. The redirect itself is not followed.
        """
        answer = browser.get(url)
        while (target := answer.headers.get("location")) is not None:
            url = str(answer.request.url.join(unescape(target)))
            if not url.startswith(self.issuer):
                return answer
            answer = browser.get(url)
            if answer.status_code == 200:
                form = {"refuse": "1"} if account is None else {"account": account}
                answer = browser.post(url, data=form)
        raise AssertionError(f"the provider answered {answer.status_code}: {answer.text}")

    def sign_out(self, browser: httpx.Client) -> None:
        """End the browser's session at the provider, which tells Homeroom of it."""
        page = browser.get(f"{self.issuer}/session/end").text
        [xsrf] = re.findall(r'name="xsrf" value="(\w+)"', page)
        form = {"xsrf": xsrf, "logout": "yes"}
        answer = browser.post(f"{self.issuer}/session/end/confirm", data=form)
        assert answer.status_code == 303, answer.text


@contextmanager
def running_provider(folder: Path) -> Iterator[IdentityProvider]:
    """Run a provider from the folder in which its packages are installed."""
    process = subprocess.Popen(
        ["node", "provider.mjs", json.dumps({"accounts": ACCOUNTS, "clients": CLIENTS})],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield IdentityProvider(process.stdout.readline().strip(), process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def provider_folder(request: pytest.FixtureRequest) -> Path:
    """Return the folder in which the provider's packages are installed."""
    assert request.config.cache is not None
    folder = Path(request.config.cache.mkdir("identity-provider"))
    try:
        return installed(HERE, folder)
    except Missing as missing:
        skip_or_fail(missing)


@pytest.fixture(scope="module")
def identity_provider(provider_folder: Path) -> Iterator[IdentityProvider]:
    """Return a running provider of one module's tests."""
    with running_provider(provider_folder) as provider:
        yield provider
