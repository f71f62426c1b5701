"""The filters of the page of streams: chips of those that are set, a form for all, and what exists to choose."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from metering.customers.queries.customers import customer_names, search_customers
from metering.customers.store import is_customer
from metering.dashboard.errors import InvalidFilterError
from metering.dashboard.links import NO_KEY, link
from metering.dashboard.page_request import Page, PageRequest
from metering.events.events import Inlet, Outcome, UsageSource
from metering.streams.bill import Flag
from metering.totals.queries.orders import Order
from metering.totals.queries.question import Group, TotalsQuestion
from metering.totals.queries.totals import read_totals

STATES = ("final", "open")
_STATE_TITLES = {"final": "final", "open": "in progress"}
_SUGGESTED, _MEANT, _MAX_USED = 50, 5, 1_000
# The daily sums by model have up to three months.
_RECENT = timedelta(days=62)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A filter in the form: with `choices`, or as text with what exists to choose from, if `suggests`."""

    name: str
    title: str
    value: str
    choices: Sequence[tuple[str, str]] = ()
    suggests: bool = False


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter that is set, and the address of the page without it."""

    title: str
    value: str
    without: str


# Filters by name, with their titles and the values of those that have few.
_TITLES = {
    "customer_id": "Customer",
    "provider": "Provider",
    "model": "Model",
    "outcome": "Outcome",
    "api_key_id": "API key",
    "flag": "Flag",
    "usage_source": "Usage source",
    "retry": "Retry",
    "inlet": "Inlet",
    "q": "Stream ID",
}
_VALUES: dict[str, Sequence[str]] = {
    "outcome": tuple(Outcome),
    "flag": tuple(Flag),
    "usage_source": tuple(UsageSource),
    "retry": ("true", "false"),
    "inlet": tuple(Inlet),
}
_SUGGESTING = frozenset({"customer_id", "provider", "model", "api_key_id"})
# Streams in progress have no bill: these filters are of their start.
_OF_OPEN = frozenset({"customer_id", "provider", "model", "api_key_id"})


def filters_of(state: str, *, by_id: bool) -> Sequence[str]:
    """The names of the filters that apply."""
    if by_id:
        return ("customer_id", "q")
    return [name for name in _TITLES if state == "final" or name in _OF_OPEN or name == "q"]


def chips(request: PageRequest, state: str, customer_id: str | None) -> Sequence[Chip]:
    """The filters that are set and apply. The customer of a bound key is no filter."""
    filters = request.filters
    by_id = request.text("q") is not None
    found = []
    if state != "final" and not by_id:
        found.append(Chip("State", _STATE_TITLES[state], _without(filters, "state")))
    for name in filters_of(state, by_id=by_id):
        value = filters.get(name, "").strip()
        if name == "customer_id" and request.viewer.customer_id is not None:
            continue
        if name == "customer_id" and customer_id is not None:
            value = customer_names(request.connection, [customer_id]).get(customer_id, customer_id)
        if value:
            found.append(Chip(_TITLES[name], _text(name, value), _without(filters, name)))
    if NO_KEY in filters and not by_id:
        found.append(Chip(_TITLES["api_key_id"], "none", _without(filters, NO_KEY)))
    return found


def _without(filters: dict[str, str], name: str) -> str:
    return link("streams", **{each: value for each, value in filters.items() if each != name})


def _text(name: str, value: str) -> str:
    if name == "retry":
        return {"true": "yes", "false": "no"}.get(value, value)
    if name in _VALUES:
        return " or ".join(value.split(",")).replace("_", " ")
    return value


def form_fields(request: PageRequest, state: str) -> Sequence[Field]:
    """The fields of the form, with the values that are set."""
    names = [name for name in filters_of(state, by_id=False) if name != "customer_id" or _may_choose(request)]
    fields = [
        Field(
            name=name,
            title=_TITLES[name],
            value=request.query.get(name, ""),
            choices=[(each, _text(name, each)) for each in _VALUES.get(name, ())],
            suggests=name in _SUGGESTING,
        )
        for name in names
    ]
    states = [(each, _STATE_TITLES[each]) for each in STATES[1:]]
    return [*fields, Field(name="state", title="State", value="" if state == "final" else state, choices=states)]


def _may_choose(request: PageRequest) -> bool:
    return request.viewer.customer_id is None


def requested_customer(request: PageRequest) -> str | None:
    """The customer of the filter; the only one of a bound key; None for all."""
    return request.customer(request.text("customer_id"))


def similar_names(request: PageRequest, customer_id: str | None) -> Sequence[tuple[str, str]]:
    """(name, address of the page) of customers that a filter may mean if no customer has exactly this id."""
    if customer_id is None or not _may_choose(request) or is_customer(request.connection, customer_id=customer_id):
        return []
    found = search_customers(request.connection, words=customer_id, limit=_MEANT)
    return [(name or each, link("streams", **{**request.filters, "customer_id": each})) for each, name in found]


def suggestions(request: PageRequest) -> Page:
    """What exists to choose for a filter, as options: customers by name or id, the rest from totals.

    The filter's own value is what has been typed so far.

    Raises:
        InvalidFilterError: the filter suggests nothing.
    """
    name = request.one_of("field", sorted(_SUGGESTING))
    if name is None:
        raise InvalidFilterError("field: required")
    words = request.text(name) or ""
    if name == "customer_id":
        options = _customers(request, words)
    else:
        options = [(each, None) for each in _used(request, name) if words.lower() in each.lower()]
    return Page(
        template="suggestions.html.j2",
        title="Suggestions",
        section="streams",
        context={"options": options[:_SUGGESTED]},
    )


def _customers(request: PageRequest, words: str) -> Sequence[tuple[str, str | None]]:
    if not _may_choose(request):
        return []
    return search_customers(request.connection, words=words, limit=_SUGGESTED)


def _used(request: PageRequest, name: str) -> Sequence[str]:
    """The values of a filter in the last two months, the one that cost most first."""
    customer_id = requested_customer(request)
    if name == "api_key_id" and customer_id is None:
        # Of all customers together there may be very many.
        return []
    groups = [Group.API_KEY_ID] if name == "api_key_id" else [Group.PROVIDER, Group.MODEL]
    # Whole days: parts of an hour would be read from its bills.
    until = request.now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    question = TotalsQuestion(
        from_=until - _RECENT,
        to=until,
        group_by=groups,
        customer_id=customer_id,
        order=Order.COST,
        limit=_MAX_USED,
        counters=False,
    )
    rows = read_totals(request.connection, question=question)
    return list(dict.fromkeys(str(row.group[name]) for row in rows if row.group[name]))
