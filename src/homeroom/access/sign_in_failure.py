"""Failures of a sign-in by a school account, and the page of each (pure)."""

from __future__ import annotations

from enum import StrEnum
from html import escape
from typing import Final

LANGUAGES: Final = ("en", "de")


class SignInFailureCode(StrEnum):
    """The codes of failures; each page and log line has one."""

    UNKNOWN_STATE = "unknown_state"
    DENIED = "denied"
    CODE_REFUSED = "code_refused"
    NO_ROLE = "no_role"
    NO_USER_ID = "no_user_id"
    CLOCKS_DIFFER = "clocks_differ"
    TOKEN_INVALID = "token_invalid"  # noqa: S105
    CLIENT_REFUSED = "client_refused"
    PROVIDER_ERROR = "provider_error"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    SESSION_NOT_STORED = "session_not_stored"


class SignInFailure(Exception):
    """A sign-in that ended without a session.

    ``detail`` is for the operator: it names claims and settings, never the content of a token.
    """

    def __init__(self, code: SignInFailureCode, detail: str) -> None:
        """Set the code and the detail."""
        self.code, self.detail = code, detail
        super().__init__(f"{code}: {detail}")

    @property
    def status(self) -> int:
        """Return the HTTP status of the page."""
        return _STATUSES[self.code]


_STATUSES: Final = {
    SignInFailureCode.UNKNOWN_STATE: 400,
    SignInFailureCode.DENIED: 403,
    SignInFailureCode.CODE_REFUSED: 400,
    SignInFailureCode.NO_ROLE: 403,
    SignInFailureCode.NO_USER_ID: 403,
    SignInFailureCode.CLOCKS_DIFFER: 502,
    SignInFailureCode.TOKEN_INVALID: 502,
    SignInFailureCode.CLIENT_REFUSED: 502,
    SignInFailureCode.PROVIDER_ERROR: 502,
    SignInFailureCode.PROVIDER_UNAVAILABLE: 503,
    SignInFailureCode.SESSION_NOT_STORED: 503,
}
_TEXTS: Final[dict[str, dict[SignInFailureCode, str]]] = {
    "en": {
        SignInFailureCode.UNKNOWN_STATE: "This sign-in was not begun in this browser, took longer"
        " than ten minutes, or has ended already.",
        SignInFailureCode.DENIED: "Your school's sign-in was cancelled, or it refused you.",
        SignInFailureCode.CODE_REFUSED: "Your school's sign-in has expired or was used already.",
        SignInFailureCode.NO_ROLE: "You are known, but have no role in Homeroom. Ask those who run"
        " it at your school for one.",
        SignInFailureCode.NO_USER_ID: "Your school's account does not say who you are in Homeroom."
        " Ask those who run it at your school.",
        SignInFailureCode.CLOCKS_DIFFER: "The clocks of Homeroom and of your school's sign-in"
        " differ. Tell those who run Homeroom.",
        SignInFailureCode.TOKEN_INVALID: "What your school's sign-in sent cannot be trusted."
        " Try again; if it happens again, tell those who run Homeroom.",
        SignInFailureCode.CLIENT_REFUSED: "Your school's sign-in does not accept Homeroom. Tell"
        " those who run Homeroom.",
        SignInFailureCode.PROVIDER_ERROR: "Your school's sign-in reports an error. Try again; if it"
        " happens again, tell those who run Homeroom.",
        SignInFailureCode.PROVIDER_UNAVAILABLE: "Your school's sign-in does not answer. Try again"
        " in a minute.",
        SignInFailureCode.SESSION_NOT_STORED: "Homeroom cannot open your session now. Try again in"
        " a minute.",
    },
    "de": {
        SignInFailureCode.UNKNOWN_STATE: "Diese Anmeldung wurde nicht in diesem Browser begonnen,"
        " hat länger als zehn Minuten gedauert oder ist schon beendet.",
        SignInFailureCode.DENIED: "Die Anmeldung Ihrer Schule wurde abgebrochen oder hat Sie"
        " abgewiesen.",
        SignInFailureCode.CODE_REFUSED: "Die Anmeldung Ihrer Schule ist abgelaufen oder wurde schon"
        " benutzt.",
        SignInFailureCode.NO_ROLE: "Sie sind bekannt, haben aber keine Rolle in Homeroom. Bitten"
        " Sie die Verantwortlichen Ihrer Schule darum.",
        SignInFailureCode.NO_USER_ID: "Das Konto Ihrer Schule sagt nicht, wer Sie in Homeroom"
        " sind. Fragen Sie die Verantwortlichen Ihrer Schule.",
        SignInFailureCode.CLOCKS_DIFFER: "Die Uhren von Homeroom und der Anmeldung Ihrer Schule"
        " gehen verschieden. Sagen Sie es den Verantwortlichen.",
        SignInFailureCode.TOKEN_INVALID: "Der Antwort der Anmeldung Ihrer Schule ist nicht zu"
        " trauen. Versuchen Sie es noch einmal; hilft das nicht, fragen Sie die Verantwortlichen.",
        SignInFailureCode.CLIENT_REFUSED: "Die Anmeldung Ihrer Schule nimmt Homeroom nicht an."
        " Sagen Sie es den Verantwortlichen.",
        SignInFailureCode.PROVIDER_ERROR: "Die Anmeldung Ihrer Schule meldet einen Fehler."
        " Versuchen Sie es noch einmal; hilft das nicht, sagen Sie es den Verantwortlichen.",
        SignInFailureCode.PROVIDER_UNAVAILABLE: "Die Anmeldung Ihrer Schule antwortet nicht."
        " Versuchen Sie es in einer Minute noch einmal.",
        SignInFailureCode.SESSION_NOT_STORED: "Homeroom kann Ihre Sitzung gerade nicht öffnen."
        " Versuchen Sie es in einer Minute noch einmal.",
    },
}
_LABELS: Final = {
    "en": ("You are not signed in", "Sign in again", "Other ways to sign in", "For the operator"),
    "de": ("Sie sind nicht angemeldet", "Neu anmelden", "Anders anmelden", "Für den Betrieb"),
}


def preferred_language(accept_language: str | None) -> str:
    """Return the first language of a header that the pages have, English without one."""
    for part in (accept_language or "").split(","):
        language = part.split(";")[0].strip().split("-")[0].lower()
        if language in LANGUAGES:
            return language
    return LANGUAGES[0]


def render_failure_page(
    failure: SignInFailure, language: str, *, again: str, console: str, request_id: str | None
) -> str:
    """Return the page of a failure, with links to ``again`` and ``console``."""
    title, sign_in, other, operator = _LABELS[language]
    note = f"{failure.code}: {failure.detail}" + (f" ({request_id})" if request_id else "")
    return (
        f'<!doctype html>\n<html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme"'
        f' content="light dark"><title>{title}</title></head>'
        f'<body><main data-code="{failure.code}"><h1>{title}</h1>'
        f"<p>{_TEXTS[language][failure.code]}</p>"
        f'<p><a href="{escape(again)}">{sign_in}</a></p>'
        f'<p><a href="{escape(console)}">{other}</a></p>'
        f"<p><small>{operator}: {escape(note)}</small></p></main></body></html>\n"
    )
