"""Search of customers in Stripe's query language, for text fields. It lags behind changes, as Stripe's does.

During the delay it does not find a new customer, and finds a changed one in its old version.
https://docs.stripe.com/search
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from metering.lab.stripe_local.errors import RefusedError
from metering.lab.stripe_local.objects import limit_of
from metering.lab.stripe_local.store import Document, Store

_TEXT = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
_CLAUSE = re.compile(
    rf"(?P<negated>-?)(?P<field>\w+)(?:\[(?P<key>{_TEXT})\])?(?P<operator>[:~])(?P<value>{_TEXT}|null)"
)
_JOIN = re.compile(r"\s+(?:(?P<word>AND|OR)\s+)?", re.IGNORECASE)
_FIELDS = ("email", "name", "phone")
_SHORTEST_PART = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clause:
    """`email:'a@b'`, `name~'ann'` or `-metadata['key']:null`; ignores case."""

    negated: bool
    field: str
    key: str | None
    part: bool
    value: str | None

    def holds(self, customer: Document) -> bool:
        found = customer["metadata"].get(self.key) if self.key is not None else customer[self.field]
        return self._matches(found) != self.negated

    def _matches(self, found: str | None) -> bool:
        if found is None or self.value is None:
            return found is self.value
        wanted, has = self.value.casefold(), found.casefold()
        return wanted in has if self.part else wanted == has


def save_version(store: Store, customer: Document) -> None:
    """Save a new version of a customer for the search, which finds it after the delay."""
    indexed = next(_versions(store, customer["id"]), None)
    if indexed is not None:
        outdated = store.walk("customer_version", equal={"customer": customer["id"]}, beyond=indexed["id"])
        for version in list(outdated):
            store.remove(version["id"])
    version = {"id": store.new_id("version"), "object": "customer_version", "created": store.now()}
    store.save({**version, "customer": customer["id"], "about": customer})


def search(store: Store, params: Document) -> Document:
    """`GET /v1/customers/search`."""
    limit = limit_of(params)
    matches = _parse(params["query"])
    found = [each for each in _searchable(store) if matches(each)]
    found.sort(key=lambda each: (each["created"], each["id"]), reverse=True)
    total = len(found)
    if "page" in params:
        last = _customer_of(params["page"])
        found = [each for each in found if (each["created"], each["id"]) < last]
    shown, more = found[:limit], len(found) > limit
    counted = {"total_count": total} if "total_count" in params.get("expand", []) else {}
    return {
        "object": "search_result",
        "data": shown,
        "has_more": more,
        "next_page": _page_after(shown[-1]) if more else None,
        "url": "/v1/customers/search",
        **counted,
    }


def _versions(store: Store, customer_id: str | None) -> Iterator[Document]:
    equal = {"customer": customer_id} if customer_id is not None else {}
    created = {"lte": int(store.now() - store.search_delay)}
    return store.walk("customer_version", equal=equal, created=created)


def _searchable(store: Store) -> list[Document]:
    """The newest indexed version of every customer that still exists."""
    newest: dict[str, Document] = {}
    for version in _versions(store, None):
        newest.setdefault(version["customer"], version["about"])
    return [each for each in newest.values() if store.find("customer", each["id"]) is not None]


def _parse(query: str) -> Callable[[Document], bool]:
    """The test of a query: clauses joined either all by AND or all by OR.

    Raises:
        RefusedError: the query is malformed.
    """
    text = query.strip()
    clauses: list[_Clause] = []
    words: set[str] = set()
    at = 0
    while at < len(text):
        join = _JOIN.match(text, at) if clauses else None
        found = _CLAUSE.match(text, join.end() if join else at)
        if found is None or (clauses and join is None):
            raise _refused(f"We were unable to parse your search query: {query}")
        if join is not None:
            words.add((join["word"] or "AND").upper())
        clauses.append(_clause(found))
        at = found.end()
    if not clauses:
        raise _refused("The search query is empty.")
    if len(words) > 1:
        raise _refused("AND and OR can not be used in one query.")
    combine = any if words == {"OR"} else all
    return lambda customer: combine(clause.holds(customer) for clause in clauses)


def _clause(found: re.Match[str]) -> _Clause:
    field, key, value = found["field"], found["key"], found["value"]
    if (field not in _FIELDS or key is not None) and (field != "metadata" or key is None):
        raise _refused(f"Field `{field}` is an unsupported search field for resource `customers`.")
    wanted = None if value == "null" else _unquoted(value)
    part = found["operator"] == "~"
    if part and (field == "metadata" or wanted is None):
        raise _refused(f"The operator ~ can not be used with the field `{field}` or with null.")
    if part and wanted is not None and len(wanted) < _SHORTEST_PART:
        raise _refused(f"The operator ~ needs at least {_SHORTEST_PART} characters.")
    return _Clause(
        negated=bool(found["negated"]),
        field=field,
        key=_unquoted(key) if key is not None else None,
        part=part,
        value=wanted,
    )


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def _page_after(customer: Document) -> str:
    return base64.urlsafe_b64encode(f"{customer['created']} {customer['id']}".encode()).decode()


def _customer_of(page: str) -> tuple[int, str]:
    try:
        created, _, customer_id = base64.urlsafe_b64decode(page).decode().partition(" ")
        return int(created), customer_id
    except (binascii.Error, ValueError) as error:
        raise RefusedError(f"Invalid page: {page}", param="page") from error


def _refused(message: str) -> RefusedError:
    return RefusedError(message, param="query")
