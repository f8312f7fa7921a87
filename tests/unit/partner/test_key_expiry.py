"""A key's expiry is that of the setting, else follows from its first use here."""

from __future__ import annotations

from homeroom.instant import DAY
from homeroom.partner.key_expiry import (
    CREDLY_KEY_LIFETIME,
    PartnerKey,
    describe_expiry,
    key_digest,
)

KEY = PartnerKey(key_digest("one"), CREDLY_KEY_LIFETIME)


def test_a_key_expires_half_a_year_after_its_first_use() -> None:
    assert KEY.expiry(key_digest("one"), 10 * DAY) == 190 * DAY
    assert KEY.expiry(None, None) is None
    assert KEY.expiry(key_digest("the one before"), 10 * DAY) is None


def test_the_setting_goes_before_the_first_use() -> None:
    key = PartnerKey(KEY.digest, CREDLY_KEY_LIFETIME, expires_at=50 * DAY)
    assert key.expiry(KEY.digest, 10 * DAY) == 50 * DAY
    assert key.expiry(None, None) == 50 * DAY


def test_a_digest_discloses_no_key() -> None:
    assert "one" not in KEY.digest
    assert key_digest("one") != key_digest("two")


def test_the_sentence_names_the_day() -> None:
    assert describe_expiry("Credly", 30 * DAY, 20 * DAY).endswith("on 1970-01-31, in 10 days")
    assert "expired on 1970-01-31" in describe_expiry("Credly", 30 * DAY, 31 * DAY)
