"""SQL that adds to the audit log of admin actions, in the transaction of the action.

The database numbers and chains the rows (`chain_audit_log`), one transaction after the other: an action writes its
row last, so that it holds the end of the chain only for its commit.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, text

from metering.access.actors import Author, actor_of

State = Mapping[str, Any]

_ADD = text(
    """
    INSERT INTO audit_log (at, actor, door, address, request_id, kind, action, subject, before, after)
    VALUES (:at, :actor, :door, :address, :request_id, :kind, :action, :subject,
            CAST(:before AS json), CAST(:after AS json))
    """
)
_encode = msgspec.json.Encoder(order="sorted", enc_hook=str).encode


def log_action(
    connection: Connection,
    *,
    by: Author,
    now: datetime,
    kind: str,
    action: str,
    subject: str,
    before: State | None = None,
    after: State | None = None,
) -> None:
    """Add a row: who did what to which subject, and the values before and after. They never contain a secret."""
    actor = actor_of(by)
    parameters = {
        "at": now,
        "actor": actor.name,
        "door": actor.door,
        "address": actor.address,
        "request_id": actor.request_id,
        "kind": kind,
        "action": action,
        "subject": subject,
        "before": None if before is None else _encode(before).decode(),
        "after": None if after is None else _encode(after).decode(),
    }
    connection.execute(_ADD, parameters)
