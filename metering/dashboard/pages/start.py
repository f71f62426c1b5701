"""The start page of a deployment without a final stream: the first steps, and which of them are done."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from metering.access.scopes import Scope
from metering.corrections.queries import count_backlog
from metering.dashboard.deployment import bills_with_stripe
from metering.dashboard.links import link
from metering.dashboard.page_request import Page, PageRequest
from metering.dashboard.values import counted
from metering.ledger.queries.streams import FirstSteps, first_steps

# A model that the initial rate cards price.
_PROVIDER, _MODEL = "anthropic", "claude-opus-4.7"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do: its title, what it is for, and whether it is done. `command` can be copied.

    The page reloads the step that is `live` until it is done.
    """

    title: str
    says: str
    done: bool
    command: str = ""
    action: str = ""
    href: str = ""
    live: bool = False


def start(request: PageRequest) -> Page:
    """The page. It reloads itself until the first stream is final."""
    return start_of(request, first_steps(request.connection))


def start_of(request: PageRequest, far: FirstSteps) -> Page:
    """The page of a deployment after these steps."""
    steps = _steps(request, far)
    return Page(template="start.html.j2", title="Get started", section="overview", context={"steps": steps})


def _steps(request: PageRequest, far: FirstSteps) -> Sequence[Step]:
    may_make_keys = request.viewer.may(Scope.KEYS_WRITE)
    has_stripe = bills_with_stripe(request.service.settings)
    return (
        Step(
            title="Make a key for your gateway",
            says="With the role ingest it can post events, and read nothing.",
            done=far.received,
            command="metering keys create --role ingest --name gateway",
            action="Keys" if may_make_keys else "",
            href=link("keys"),
        ),
        Step(
            title="Post the first events",
            says="Put the key into KEY. These two events are one stream: a start, and an end with its usage.",
            done=far.received,
            command=example(request.now, address=f"{request.origin}/v1/events"),
        ),
        _first_stream(request, far),
        Step(
            title="Connect Stripe",
            says="Months can be closed without it. With STRIPE_API_KEY set, their invoices are pushed to Stripe.",
            done=has_stripe,
            command="" if has_stripe else "STRIPE_API_KEY=rk_test_… metering up",
            action="Link customers" if has_stripe else "",
            href=link("customers"),
        ),
    )


def _first_stream(request: PageRequest, far: FirstSteps) -> Step:
    if far.final:
        return Step(title="The first stream is final", says="Its cost is exact.", done=True, live=True,
                    action="Open the overview", href=link(""))  # fmt: skip
    if not far.received:
        return Step(title="Waiting for the first event…", says="This page changes when it arrives.", done=False,
                    live=True)  # fmt: skip
    if waiting := count_backlog(request.connection, customer_id=None):
        return Step(title=f"{counted(waiting, 'ended stream')} cannot be billed yet", done=False, live=True,
                    says="The backlog says why, and what to do.", action="Open the backlog",
                    href=link("backlog"))  # fmt: skip
    return Step(title="The first events have arrived", done=False, live=True,
                says="A stream is final a moment after its end, if a worker runs.", action="See the streams",
                href=link("streams"))  # fmt: skip


def example(now: datetime, *, address: str) -> str:
    """A command that posts one short stream that ends now. Its id has the time, so it is never sent twice."""
    stream_id = f"first-{now:%H%M%S}"
    usage = {"input_tokens": 812, "output_tokens": 37}
    begun = {"provider": _PROVIDER, "model": _MODEL, "input_tokens": usage["input_tokens"]}
    ended = {"outcome": "completed", "usage": usage, "usage_source": "provider"}
    events = [
        _event(stream_id, "stream-start", now - timedelta(seconds=4), begun),
        _event(stream_id, "stream-end", now, ended),
    ]
    body = ",\n ".join(json.dumps(each) for each in events)
    return f"curl -H \"Authorization: Bearer $KEY\" {shlex.quote(address)} --json '[\n {body}]'"


def _event(stream_id: str, kind: str, at: datetime, data: Mapping[str, object]) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "type": kind,
        "source": "/first-steps",
        "id": f"{stream_id}:{kind}",
        "subject": "acme",
        "time": at.isoformat(timespec="milliseconds"),
        "data": {"stream_id": stream_id, **data},
    }
