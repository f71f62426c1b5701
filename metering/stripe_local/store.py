"""What it knows: objects by id in the order of their making, in memory, and in a file where one is given."""

import json
import secrets
import sqlite3
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from metering.stripe_local.errors import RefusedError, missing

Document = dict[str, Any]

_MAX_EVENTS = 10_000


class Store:
    """All objects. Changes are made to the documents themselves and then saved."""

    def __init__(self, path: Path | None = None) -> None:
        self._kinds: defaultdict[str, dict[str, Document]] = defaultdict(dict)
        self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False) if path else None
        self.clock_offset = 0.0
        self.base_url = ""
        if self._file is not None:
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS objects (id TEXT PRIMARY KEY, place INTEGER, document TEXT)"
            )
            rows = self._file.execute("SELECT id, document FROM objects ORDER BY place")
            for object_id, document in rows.fetchall():
                found = json.loads(document)
                self._kinds[found["object"]][object_id] = found
        self._place = sum(map(len, self._kinds.values()))

    def now(self) -> int:
        """The time, in seconds since 1970; it can be moved on."""
        return int(time.time() + self.clock_offset)

    def new_id(self, prefix: str) -> str:
        """An id that sorts by the time of its making, as Stripe's do."""
        self._place += 1
        return (
            f"{prefix}_{int((time.time() + self.clock_offset) * 1000):011x}{self._place:06x}{secrets.token_hex(3)}"
        )

    def save(self, document: Document) -> Document:
        """Keep a new or changed object."""
        self._kinds[document["object"]][document["id"]] = document
        if self._file is not None:
            self._file.execute(
                "INSERT INTO objects VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET document = excluded.document",
                (document["id"], self._place, json.dumps(document)),
            )
        return document

    def remove(self, object_id: str) -> None:
        """Forget an object."""
        for objects in self._kinds.values():
            objects.pop(object_id, None)
        if self._file is not None:
            self._file.execute("DELETE FROM objects WHERE id = ?", (object_id,))

    def find(self, kind: str, object_id: str) -> Document | None:
        """An object of a kind by its id."""
        return self._kinds[kind].get(object_id)

    def find_any(self, object_id: str) -> Document | None:
        """An object of whatever kind."""
        return next((found[object_id] for found in self._kinds.values() if object_id in found), None)

    def get(self, kind: str, object_id: str, *, param: str = "id") -> Document:
        """An object that has to be there.

        Raises:
            RefusedError: it is not.
        """
        found = self.find(kind, object_id)
        if found is None:
            raise missing(kind, object_id, param=param)
        return found

    def all(self, kind: str) -> list[Document]:
        """Every object of a kind, newest first."""
        return list(reversed(self._kinds[kind].values()))

    def where(self, kind: str, **equal: Any) -> list[Document]:
        """Those with these values, newest first."""
        return [each for each in self.all(kind) if all(each.get(name) == value for name, value in equal.items())]

    def trim_events(self) -> None:
        """Keep the newest events only."""
        events = self._kinds["event"]
        while len(events) > _MAX_EVENTS:
            self.remove(next(iter(events)))

    def reset(self) -> None:
        """Forget everything."""
        for object_id in [object_id for objects in self._kinds.values() for object_id in objects]:
            self.remove(object_id)
        self.clock_offset = 0.0


def page(documents: list[Document], params: Document, *, url: str) -> Document:
    """A list as Stripe gives it: newest first, at most a hundred, from behind or before an id."""
    limit = params.get("limit", 10)
    if not 1 <= limit <= 100:
        raise RefusedError("limit must be between 1 and 100", code="parameter_invalid_integer", param="limit")
    ids = [each["id"] for each in documents]
    backwards = "ending_before" in params
    for param in ("starting_after", "ending_before"):
        if param in params and params[param] not in ids:
            raise missing("object", params[param], param=param)
    if backwards:
        documents = documents[: ids.index(params["ending_before"])]
        shown = documents[-limit:]
    else:
        documents = (
            documents[ids.index(params["starting_after"]) + 1 :] if "starting_after" in params else documents
        )
        shown = documents[:limit]
    return {"object": "list", "data": shown, "has_more": len(documents) > limit, "url": url}


def created_within(document: Document, wanted: Any) -> bool:
    """Whether it was created at a moment, or within bounds."""
    if not isinstance(wanted, dict):
        return bool(document["created"] == wanted)
    at: int = document["created"]
    return bool(
        at >= wanted.get("gte", at)
        and at > wanted.get("gt", at - 1)
        and at <= wanted.get("lte", at)
        and at < wanted.get("lt", at + 1)
    )
