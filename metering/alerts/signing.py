"""Signatures of messages as in Standard Webhooks 1.0: HMAC-SHA256 over id, time and body.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme
"""

import base64
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256

_PREFIX = "whsec_"
_EPOCH_SECOND = timedelta(seconds=1)

# The specification asks for 24 to 64.
SECRET_BYTES = 32


def secret_text(key: bytes) -> str:
    """A secret in the form that receivers use: `whsec_` and the key in base64."""
    return _PREFIX + base64.b64encode(key).decode()


def signed_headers(*, message_id: str, at: datetime, body: bytes, secrets: Sequence[str]) -> Mapping[str, str]:
    """The three headers of an attempt at the time `at`, with one signature per secret."""
    epoch = datetime.fromtimestamp(0, tz=at.tzinfo)
    timestamp = str((at - epoch) // _EPOCH_SECOND)
    signed = b".".join([message_id.encode(), timestamp.encode(), body])
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signature(secret, signed) for secret in secrets),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return "v1," + base64.b64encode(hmac.new(key, signed, sha256).digest()).decode()
