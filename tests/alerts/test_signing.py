"""Signing: any receiver that follows Standard Webhooks accepts our messages, and no others."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from metering.alerts.signing import SECRET_BYTES, secret_text, signed_headers

KEYS = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def headers(body: str, *secrets: str, at: datetime | None = None) -> dict[str, str]:
    return dict(
        signed_headers(message_id="msg_1", at=at or datetime.now(UTC), body=body.encode(), secrets=secrets)
    )


def as_json(text: str) -> str:
    return '{"said":"' + "".join(f"\\u{ord(each):04x}" for each in text if ord(each) < 0x10000) + '"}'


@given(KEYS, TEXTS)
def test_the_reference_library_verifies_what_we_sign(key: bytes, text: str) -> None:
    secret, body = secret_text(key), as_json(text)
    assert secret.startswith("whsec_")
    Webhook(secret).verify(body, headers(body, secret))


@given(KEYS, KEYS)
def test_each_of_two_secrets_verifies_while_one_takes_over(old: bytes, new: bytes) -> None:
    signed = headers("{}", secret_text(old), secret_text(new))
    for key in (old, new):
        Webhook(secret_text(key)).verify("{}", signed)


@pytest.mark.parametrize("changed", ["webhook-id", "webhook-timestamp", "webhook-signature", "body", "secret"])
def test_whatever_is_changed_is_refused(changed: str) -> None:
    secret = secret_text(bytes(SECRET_BYTES))
    signed, body = headers("{}", secret), "{}"
    if changed == "body":
        body = "[]"
    elif changed == "secret":
        secret = secret_text(bytes([1]) * SECRET_BYTES)
    elif changed == "webhook-timestamp":
        signed[changed] = str(int(signed[changed]) + 1)
    elif changed == "webhook-signature":
        signed[changed] = headers("[]", secret)[changed]
    else:
        signed[changed] += "x"
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, signed)


def test_the_timestamp_is_in_whole_seconds_whatever_the_zone() -> None:
    at = datetime(2026, 11, 23, 15, 30, 0, 999_999, tzinfo=UTC)
    expected = str(int(datetime(2026, 11, 23, 15, 30, tzinfo=UTC).timestamp()))
    assert headers("{}", secret_text(b"k" * SECRET_BYTES), at=at)["webhook-timestamp"] == expected
    assert headers("{}", at=at + timedelta(microseconds=1))["webhook-timestamp"] != expected
