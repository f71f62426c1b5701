"""The store: all objects as JSON documents, in a SQLite file or in a temporary one.

A document that was read is a copy: a change of it must be saved. The changes of a request are one transaction.
"""

import json
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metering.lab.stripe_local.errors import missing

Document = dict[str, Any]

# Lists are ordered by the time of creation, then by the order of insertion; frequent filters have an index.
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA cache_size = -65536;
CREATE TABLE IF NOT EXISTS documents (
    place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, created INTEGER NOT NULL,
    customer TEXT, invoice TEXT, credit_note TEXT, document TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS documents_by_kind ON documents (kind, created, place);
CREATE INDEX IF NOT EXISTS documents_by_customer ON documents (customer, kind, created, place)
    WHERE customer IS NOT NULL;
CREATE INDEX IF NOT EXISTS documents_by_invoice ON documents (invoice, kind, created, place)
    WHERE invoice IS NOT NULL;
CREATE INDEX IF NOT EXISTS documents_by_credit_note ON documents (credit_note, kind, created, place)
    WHERE credit_note IS NOT NULL;
"""
_SAVE = """
INSERT INTO documents (id, kind, created, customer, invoice, credit_note, document) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET created = excluded.created, customer = excluded.customer,
    invoice = excluded.invoice, credit_note = excluded.credit_note, document = excluded.document
"""
_POSITION = "(SELECT created, place FROM documents WHERE id = ?)"
_COLUMNS = ("customer", "invoice", "credit_note")
_BOUNDS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
# `trim` deletes only once in this many additions.
_TRIM_EVERY = 500


class Store:
    """All objects. `clock_offset` moves the clock forward, and searches lag by `search_delay`, both in seconds.

    `listener` is called with each event after its transaction is committed.
    """

    def __init__(self, path: Path | None = None, *, search_delay: float = 0.0) -> None:
        self._file = sqlite3.connect(path or "", isolation_level=None, check_same_thread=False)
        self._file.executescript(_SCHEMA)
        self._place: int = self._file.execute("SELECT coalesce(max(place), 0) FROM documents").fetchone()[0]
        self._added: Counter[str] = Counter()
        self._announced: list[Document] = []
        self.listener: Callable[[Document], None] | None = None
        self._search_delay = search_delay
        self.base_url = ""
        self._set_defaults()

    def _set_defaults(self) -> None:
        self.clock_offset = 0.0
        self.search_delay = self._search_delay

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """A transaction; after its commit, the listener gets its events."""
        self._file.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._file.execute("ROLLBACK")
            self._announced.clear()
            raise
        self._file.execute("COMMIT")
        events, self._announced = self._announced, []
        if self.listener is not None:
            for event in events:
                self.listener(event)

    def announce(self, event: Document) -> None:
        """Pass an event to the listener after the transaction is committed."""
        self._announced.append(event)

    def now(self) -> int:
        """The time of the store's clock, in seconds since 1970."""
        return int(time.time() + self.clock_offset)

    def new_id(self, prefix: str) -> str:
        """An id that sorts by the time of creation, as Stripe's ids do."""
        self._place += 1
        return (
            f"{prefix}_{int((time.time() + self.clock_offset) * 1000):011x}{self._place:06x}{secrets.token_hex(3)}"
        )

    def save(self, document: Document) -> Document:
        """Save a new or changed object."""
        row = (document.get("created", 0), *(document.get(name) for name in _COLUMNS))
        text = json.dumps(document, separators=(",", ":"))
        self._file.execute(_SAVE, (document["id"], document["object"], *row, text))
        return document

    def remove(self, object_id: str) -> None:
        """Delete an object."""
        self._file.execute("DELETE FROM documents WHERE id = ?", (object_id,))

    def find(self, kind: str, object_id: str) -> Document | None:
        """The object of a kind with this id, or None."""
        found = self.find_any(object_id)
        return found if found is not None and found["object"] == kind else None

    def find_any(self, object_id: str) -> Document | None:
        """The object of any kind with this id, or None."""
        row = self._file.execute("SELECT document FROM documents WHERE id = ?", (object_id,)).fetchone()
        return json.loads(row[0]) if row else None

    def get(self, kind: str, object_id: str, *, param: str = "id") -> Document:
        """The object of a kind with this id.

        Raises:
            RefusedError: 404, it does not exist.
        """
        found = self.find(kind, object_id)
        if found is None:
            raise missing(kind, object_id, param=param)
        return found

    def walk(
        self,
        kind: str,
        *,
        equal: Mapping[str, Any] | None = None,
        created: Any = None,
        beyond: str | None = None,
        oldest_first: bool = False,
    ) -> Iterator[Document]:
        """The objects of a kind with `equal` values, one after the other, newest first unless `oldest_first`.

        `created` is a time or has bounds such as `{"lte": 5}`; `beyond` is the id of the object before the first.
        """
        equal = equal or {}
        terms, values = _terms(kind, equal, created)
        if beyond is not None:
            terms.append(f"(created, place) {'>' if oldest_first else '<'} {_POSITION}")
            values.append(beyond)
        order = "created, place" if oldest_first else "created DESC, place DESC"
        query = f"SELECT document FROM documents WHERE {' AND '.join(terms)} ORDER BY {order}"
        for (text,) in self._file.execute(query, values):
            document: Document = json.loads(text)
            if all(document.get(name) == value for name, value in equal.items()):
                yield document

    def where(self, kind: str, **equal: Any) -> list[Document]:
        """All objects of a kind with these values, oldest first."""
        return list(self.walk(kind, equal=equal, oldest_first=True))

    def count(self, kind: str, **equal: Any) -> int:
        """The number of objects of a kind with this customer, invoice or credit note."""
        terms, values = _terms(kind, equal, None)
        query = f"SELECT count(*) FROM documents WHERE {' AND '.join(terms)}"
        count: int = self._file.execute(query, values).fetchone()[0]
        return count

    def delete_before(self, kind: str, moment: int) -> None:
        """Delete the objects of a kind that were created before a time."""
        self._file.execute("DELETE FROM documents WHERE kind = ? AND created < ?", (kind, moment))

    def trim(self, kind: str, *, most: int) -> None:
        """Called after each addition: keeps about the newest `most` objects of a kind."""
        self._added[kind] += 1
        if self._added[kind] % _TRIM_EVERY:
            return
        query = """DELETE FROM documents WHERE place IN (
            SELECT place FROM documents WHERE kind = ? ORDER BY created DESC, place DESC LIMIT -1 OFFSET ?)"""
        self._file.execute(query, (kind, most))

    def reset(self) -> None:
        """Delete all objects, and restore the settings of the start."""
        self._file.execute("DELETE FROM documents")
        self._set_defaults()


def _terms(kind: str, equal: Mapping[str, Any], created: Any) -> tuple[list[str], list[Any]]:
    """The conditions that SQLite has columns for; `walk` compares the other values of `equal` itself."""
    terms, values = ["kind = ?"], [kind]
    for name in _COLUMNS:
        if name in equal and equal[name] is None:
            terms.append(f"{name} IS NULL")
        elif name in equal:
            terms.append(f"{name} = ?")
            values.append(equal[name])
    bounds = created.items() if isinstance(created, Mapping) else [] if created is None else [("equal", created)]
    for name, moment in bounds:
        terms.append(f"created {_BOUNDS.get(name, '=')} ?")
        values.append(moment)
    return terms, values
