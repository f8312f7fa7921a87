"""Every shape of secret that Homeroom makes or is given.

The code that makes a secret makes it here too.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks.webhooks import Webhook

from homeroom.access.routes import sign_in_link
from homeroom.access.store import KEY_PREFIX, SIGN_IN_PREFIX, new_token
from homeroom.notify.unsubscribe_token import Subscription, encode_unsubscribe_token
from homeroom.partner.client import basic_auth_header, bearer_auth_header
from homeroom.web.identity import SESSION_COOKIE

PASSWORD = "Tr0ub4dor-and-3"
_API_KEY = new_token(KEY_PREFIX)
_SIGN_IN = new_token(SIGN_IN_PREFIX)
_SESSION = new_token("")
_JWT = jwt.encode({"sub": "ada", "exp": 2_000_000_000}, secrets.token_urlsafe(48), "HS256")
_WEBHOOK_SECRET = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
_SIGNATURE = Webhook(_WEBHOOK_SECRET).sign("m1", datetime(2026, 11, 29, tzinfo=UTC), "{}")
_UNSUBSCRIBE = encode_unsubscribe_token(Subscription("ada", "digest", "email"), b"k" * 32)
_PRIVATE_KEY = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    .decode()
)
_BASIC = basic_auth_header("credly-token")
_PLAIN = base64.b64encode(f"\0mailer\0{PASSWORD}".encode()).decode()

SHAPES: Mapping[str, tuple[str, str]] = {
    "an API key": (f"the key {_API_KEY} was refused", _API_KEY),
    "an API key in a URL": (f"GET /api/v1/jobs?key={_API_KEY}&limit=5", _API_KEY),
    "a sign-in token": (f"token {_SIGN_IN}.", _SIGN_IN),
    "a sign-in link": (sign_in_link("https://school.example", _SIGN_IN), _SIGN_IN),
    "a session cookie": (f"Cookie: theme=dark; {SESSION_COOKIE}={_SESSION}; x=1", _SESSION),
    "a session as it is": (f"no session {_SESSION} here", _SESSION),
    "a set cookie": (f"set-cookie: {SESSION_COOKIE}={_SESSION}; HttpOnly", _SESSION),
    "a JWT": (f"cannot decode {_JWT}", _JWT),
    "a JWT, cut off": (f"cannot decode {_JWT[:80]}", _JWT[40:80]),
    "a webhook's secret": (f"bad secret {_WEBHOOK_SECRET}", _WEBHOOK_SECRET[6:]),
    "a webhook's signature": (f"expected {_SIGNATURE} instead", _SIGNATURE[3:]),
    "a signature header": (f"webhook-signature: {_SIGNATURE}", _SIGNATURE[3:]),
    "an unsubscribe link": (f"GET https://school.example/u/{_UNSUBSCRIBE} 404", _UNSUBSCRIBE),
    "a private key": (f"cannot load {_PRIVATE_KEY}", _PRIVATE_KEY.splitlines()[1]),
    "a private key, cut off": (_PRIVATE_KEY[:120], _PRIVATE_KEY.splitlines()[1][:40]),
    "bearer authorization": (f"authorization: {bearer_auth_header(PASSWORD)}", PASSWORD),
    "bearer alone": (f"sent {bearer_auth_header(PASSWORD)} in vain", PASSWORD),
    "basic authorization": (f"Authorization: {_BASIC}", _BASIC.split()[1]),
    "basic alone": (f"sent {_BASIC} in vain", _BASIC.split()[1]),
    "digest authorization": (
        f'Authorization: Digest username="x", response="{PASSWORD}"',
        PASSWORD,
    ),
    "raw headers": (repr([(b"authorization", f"Token {PASSWORD}".encode())]), PASSWORD),
    "a curl command": (f"curl -H 'Authorization: Bearer {PASSWORD}' https://x.example", PASSWORD),
    "a log-in by SMTP": (f"sent AUTH PLAIN {_PLAIN}", _PLAIN),
    "a database URL": (f"postgresql://homeroom:{PASSWORD}@db:5432/homeroom", PASSWORD),
    "a database URL with @": (f"postgresql://homeroom:x@{PASSWORD}@db/homeroom", PASSWORD),
    "a database URL with /": (f"postgresql://homeroom:x/{PASSWORD}@db/homeroom", PASSWORD),
    "a Redis URL": (f"cannot reach redis://:{PASSWORD}@cache:6379/0", PASSWORD),
    "two Redis URLs": (f"redis://:{PASSWORD}@a:6379,redis://:{PASSWORD}@b:6379", PASSWORD),
    "an SMTP URL": (f"smtps://mailer:{quote(PASSWORD)}@mail.example:465", PASSWORD),
    "a token as the user of a URL": (f"https://{PASSWORD}@partner.example/hook", PASSWORD),
    "a channel of Apprise": (f"twilio://sid:{PASSWORD}@+4930123/+4930456", PASSWORD),
    "a chat webhook": (f"POST https://hooks.slack.com/services/T1/B1/{PASSWORD} 404", PASSWORD),
    "a DSN": (f"host=db user=homeroom password={PASSWORD} dbname=homeroom", PASSWORD),
    "a quoted DSN": (f"host=db password='a {PASSWORD}' dbname=homeroom", PASSWORD),
    "a query": (f"GET /x?y=1&access_token={PASSWORD}&z=2", PASSWORD),
    "a query, escaped": (f"next=%2Fx%3Ftoken%3D{PASSWORD}", PASSWORD),
    "a setting": (f"HOMEROOM_CREDLY_TOKEN={PASSWORD} homeroom serve", PASSWORD),
    "another setting": (f"HOMEROOM_ADMIN_KEY={PASSWORD}", PASSWORD),
    "an option": (f"psql --password {PASSWORD} --host db", PASSWORD),
    "JSON": (json.dumps({"clientSecret": f'a"{PASSWORD}', "b": 1}), PASSWORD),
    "JSON in JSON": (json.dumps(json.dumps({"apiKey": PASSWORD, "b": 1})), PASSWORD),
    "a Python dict": (repr({"x-api-key": PASSWORD}), PASSWORD),
    "YAML": (f"passphrase: {PASSWORD}", PASSWORD),
    "an OpenAI key": ("sk-proj-" + "a1B2" * 10, "a1B2a1B2"),
    "an Anthropic key": ("sk-ant-api03-" + "a1B2" * 10, "a1B2a1B2"),
    "a Google key": ("AIza" + "a1B2" * 9, "a1B2a1B2"),
    "an e-mail address": ("no mailbox ada.lovelace@school.example", "ada.lovelace"),
    "an e-mail address, escaped": (
        "GET /users?email=ada.lovelace%40school.example",
        "ada.lovelace",
    ),
    "an e-mail address with a name": ('<"ada lovelace"@school.example>', "ada lovelace"),
}
"""By name: a text as it may occur, and the part that must not be in what is shown."""

JSON_SHAPES: Mapping[str, Any] = {
    "by name": {"accessToken": PASSWORD, "Set-Cookie": PASSWORD, "pwd": PASSWORD},
    "by name, deep": {"a": [{"b": {"signing_key": PASSWORD}}]},
    "a list under a name": {"passwords": [PASSWORD]},
    "headers as pairs": [["Authorization", PASSWORD], ["x-signature", PASSWORD]],
    "names and values apart": [{"name": "api-key", "value": PASSWORD}],
    "a secret as a name": {f"Bearer {PASSWORD}": 1},
}
