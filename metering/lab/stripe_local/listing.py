"""Lists as Stripe gives them: newest first, at most a hundred, from behind or before an id."""

from collections.abc import Callable
from itertools import islice

from metering.lab.stripe_local.errors import RefusedError
from metering.lab.stripe_local.store import Document, Store


def limit_of(params: Document) -> int:
    """How many are asked for.

    Raises:
        RefusedError: none, or more than a hundred.
    """
    limit: int = params.get("limit", 10)
    if not 1 <= limit <= 100:
        raise RefusedError("limit must be between 1 and 100", code="parameter_invalid_integer", param="limit")
    return limit


def list_page(
    store: Store,
    kind: str,
    params: Document,
    *,
    url: str,
    filters: tuple[str, ...] = (),
    within: Document | None = None,
    keep: Callable[[Document], bool] = lambda _: True,
    oldest_first: bool = False,
) -> Document:
    """A page of a kind. `filters` are parameters that are compared as they are, `within` holds for all of them.

    Costs what the page has, and what `keep` or a filter without an index passes over.
    """
    limit = limit_of(params)
    backwards = "ending_before" in params
    param = "ending_before" if backwards else "starting_after"
    beyond = store.get(kind, params[param], param=param)["id"] if param in params else None
    found = store.walk(
        kind,
        equal={**{name: params[name] for name in filters if name in params}, **(within or {})},
        created=params.get("created"),
        beyond=beyond,
        oldest_first=oldest_first != backwards,
    )
    taken = list(islice(filter(keep, found), limit + 1))
    shown = taken[:limit]
    return {
        "object": "list",
        "data": shown[::-1] if backwards else shown,
        "has_more": len(taken) > limit,
        "url": url,
    }
