"""`/problems` and `/problems/{slug}`: a page for each kind of problem, with when it occurs and what to do.

The `type` of a problem is the path of its page. The API reference in the documentation has the same texts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

from metering.api.auth import open_to_all
from metering.api.problems import INTERNAL, METHOD_NOT_ALLOWED, PROBLEMS, NotFoundError, ProblemType

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class ProblemHelp:
    """What a client should know about a kind of problem. Code in backticks, as in Markdown."""

    when: str
    do: str


_SAME_LATER = "Send the same request again after `Retry-After` seconds."

PROBLEM_HELP: Mapping[str, ProblemHelp] = {
    "body-too-large": ProblemHelp(
        "The body has more bytes than this path accepts: 8 MiB for events, as sent and decompressed, and 256 KiB"
        " elsewhere.",
        "Split the batch and send the parts.",
    ),
    "budget-differs": ProblemHelp(
        "A budget with this id exists with another scope or window, which cannot change.",
        "Choose another id, or end the budget: `DELETE /v1/budgets/{budget_id}`.",
    ),
    "budget-exhausted": ProblemHelp(
        "The hold does not fit a budget. The problem has the figures: limit, spent, held, needed, and when it"
        " resets.",
        "Ask for at most `max_output_tokens_that_fit`, wait until `resets_at`, or have the limit raised.",
    ),
    "busy": ProblemHelp(
        "`METERING_CONCURRENT_READS` requests are being answered, and this one waited for its turn too long.",
        f"{_SAME_LATER} If it happens often, send fewer requests at a time, or raise the setting.",
    ),
    "forbidden": ProblemHelp(
        "The key is valid, but lacks the scope, or is bound to another customer or source. `detail` says which.",
        "Use a key with the scope that `detail` names. An admin creates it: `metering keys create`.",
    ),
    "grant-not-active": ProblemHelp(
        "The grant has ended, or its Stripe invoice is not paid yet, so it cannot be voided or refunded.",
        "Read the grant: `GET /v1/grants/{grant_id}`.",
    ),
    "hold-differs": ProblemHelp(
        "The stream has a hold that was made for another request.",
        "Repeat the request of the hold unchanged, or give the new stream an id of its own.",
    ),
    "http-version": ProblemHelp(
        "The client or a proxy uses HTTP/1.0, in which a broken export looks like a complete one.",
        "Use HTTP/1.1, also between a proxy and the API.",
    ),
    "idempotency-key-reused": ProblemHelp(
        "Another request with another body was sent with this `Idempotency-Key`.",
        "Use a new `Idempotency-Key` for each adjustment, and the same one only to repeat the same request.",
    ),
    "internal": ProblemHelp(
        "The service failed in a way that it does not expect. The log has the error, with the same `request_id`.",
        "Send the request again. If it fails again, report the `request_id` to the operator of the service.",
    ),
    "invalid-adjustment": ProblemHelp(
        "The adjustment cannot be booked: its amount is 0, a credit is above 0, the reason is empty, or the stream"
        " has no charge.",
        "Correct the field that `detail` names.",
    ),
    "invalid-alert": ProblemHelp(
        "The alert's kind, scope, thresholds and floor do not fit together.",
        "Correct the field that `detail` names. The alerts page of the documentation lists what each kind takes.",
    ),
    "invalid-budget": ProblemHelp(
        "The terms of the budget do not go together. `detail` names the field.",
        "Correct the field that `detail` names.",
    ),
    "invalid-encoding": ProblemHelp(
        "The body is not what `Content-Encoding` says, or it is damaged.",
        "Compress the body as `Content-Encoding` says (`gzip` or `zstd`), or send it without.",
    ),
    "invalid-events": ProblemHelp(
        "Every event of the request was rejected, or the batch is empty. `rejected` has the reason for each.",
        "Correct the sender and send the events again. Do not retry without a change: the answer stays the same.",
    ),
    "invalid-grant": ProblemHelp(
        "The terms of the grant do not go together. `detail` names the field.",
        "Correct the field that `detail` names.",
    ),
    "invalid-json": ProblemHelp(
        "The body is not JSON, or is not UTF-8. `detail` says at which byte.",
        "Correct the body. The usual cause is text in the place of an encoder's output.",
    ),
    "invalid-key": ProblemHelp(
        "The role, scopes, customer and source of the key do not fit together, or a scope does not exist.",
        "Correct the field that `detail` names.",
    ),
    "invalid-otlp": ProblemHelp(
        "The body is not an OTLP message of the kind that this path takes.",
        "Send traces to `/v1/traces` and logs to `/v1/logs`, as protobuf or JSON, with that `Content-Type`.",
    ),
    "invalid-parameter": ProblemHelp(
        "A query parameter, a part of the path or a field of the body is invalid, missing or unknown.",
        "Correct what `detail` names. In a URL, write the `+` of a time zone as `%2B`.",
    ),
    "invalid-rate": ProblemHelp(
        "The rate card is not complete or contradicts itself: a kind twice, overlapping windows, a negative rate.",
        "Correct what `detail` names.",
    ),
    "invalid-resolution": ProblemHelp(
        "The action does not fit the state of the stream.",
        "Use an action that `GET /v1/backlog` lists for this stream.",
    ),
    "invalid-top-up": ProblemHelp(
        "The terms of the top-up do not go together, or the customer is not linked to Stripe.",
        "Correct what `detail` names.",
    ),
    "invalid-webhook": ProblemHelp(
        "The signature of the webhook is missing, wrong, too old or dated in the future, or the body is no event.",
        "Compare `STRIPE_WEBHOOK_SECRET` with the signing secret of the endpoint at Stripe, and check the server's"
        " clock.",
    ),
    "invalid-webhook-endpoint": ProblemHelp(
        "A message type does not exist, the description is too long, or the overlap of secrets is out of range.",
        "Correct the field that `detail` names.",
    ),
    "invalid-webhook-url": ProblemHelp(
        "The URL is not `https`, has a user, a fragment or a reserved port, or leads to a private address.",
        "Use a public `https` URL. `METERING_WEBHOOKS_ALLOW_PRIVATE` permits private ones.",
    ),
    "key-not-active": ProblemHelp(
        "The key is revoked or expired and cannot be changed.",
        "Create a new key.",
    ),
    "method-not-allowed": ProblemHelp(
        "The path exists, but not with this method. `Allow` lists those that it has.",
        "Use a method that `Allow` lists.",
    ),
    "no-record-accepted": ProblemHelp(
        "No record of the request could be used. `rejected` has the reason for each record.",
        "Correct the sender's format or configuration, and send the records again.",
    ),
    "not-committed": ProblemHelp(
        "The events were written, but the database did not confirm the commit in time. They may be stored or not.",
        f"{_SAME_LATER} Events are counted once, however often they are sent.",
    ),
    "not-found": ProblemHelp(
        "The path does not exist, nothing has this id, or this key may not see it.",
        "Check the path and the id. A key that is bound to a customer sees that customer only.",
    ),
    "not-in-backlog": ProblemHelp(
        "The stream waits for no decision: it is still open, or it is already final.",
        "Read the stream: `GET /v1/streams/{customer_id}/{stream_id}`. For a booked one, book an adjustment.",
    ),
    "price-unknown": ProblemHelp(
        "The model, its input or its output has no price, and a budget does not take streams without one.",
        "Set the rate (`metering rates set`), or give the budgets an `unknown_price`.",
    ),
    "query-timeout": ProblemHelp(
        "The database took longer than `METERING_READ_TIMEOUT` to answer.",
        "Ask for less: a shorter range, or a single customer.",
    ),
    "queue-full": ProblemHelp(
        "Events arrive faster than the database stores them, and the ingest queue is full. Nothing of this request"
        " was stored.",
        f"{_SAME_LATER} The emitter does so by itself.",
    ),
    "rate-date-taken": ProblemHelp(
        "Another rate card of this model takes effect at the same time.",
        "Use another `effective_from`. Rate cards are never changed: a new dated one replaces the old one.",
    ),
    "request-in-flight": ProblemHelp(
        "A request with the same `Idempotency-Key` is still being answered.",
        _SAME_LATER,
    ),
    "stream-archived": ProblemHelp(
        "The facts and events of the stream were moved to an archive. Its charge and adjustments are still here.",
        "Read its charge: `GET /v1/charges`. An operator can bring the stream back: `metering archive restore`.",
    ),
    "store-unavailable": ProblemHelp(
        "PostgreSQL cannot be reached. Nothing was stored.",
        f"{_SAME_LATER} The service recovers by itself when PostgreSQL answers again.",
    ),
    "store-unsafe": ProblemHelp(
        "PostgreSQL could lose what it confirms: `fsync`, `full_page_writes` or `synchronous_commit` is off.",
        "Nothing that a client can do. The operator turns the setting on; then send the same request again.",
    ),
    "stream-changed": ProblemHelp(
        "The stream, or what it would cost, has changed since the `version` that the decision was made on."
        " `detail` says what changed.",
        "Read the stream of the backlog again, and decide with its new `version`.",
    ),
    "stream-final": ProblemHelp(
        "The stream has its charge already, so there is nothing to hold.",
        "Give the new stream an id of its own.",
    ),
    "stream-started": ProblemHelp(
        "An event of the stream has arrived, so its hold ends when its charge is booked.",
        "Post the stream-end.",
    ),
    "stripe-customer-taken": ProblemHelp(
        "Another customer here is linked to this Stripe customer.",
        "Link each Stripe customer to one customer only.",
    ),
    "terms-date-taken": ProblemHelp(
        "Another cancel policy, markup or upstream price takes effect at the same time.",
        "Use another `effective_from`.",
    ),
    "too-many-alerts": ProblemHelp(
        "The customer, or the deployment, has as many alerts as it may have.",
        "Delete alerts that are not needed. An alert with the scope `each_customer` takes the place of many.",
    ),
    "too-many-events": ProblemHelp(
        "The request has more events than one request may have.",
        "Split the batch and send the parts.",
    ),
    "too-many-exports": ProblemHelp(
        "As many exports as the service allows are running.",
        _SAME_LATER,
    ),
    "too-many-grants": ProblemHelp(
        "The customer has as many active grants as are allowed.",
        "Let grants be used up, void those that are not needed, or make one larger grant.",
    ),
    "too-many-requests": ProblemHelp(
        "The key is over one of its limits: events per second, requests per second or concurrent requests.",
        f"{_SAME_LATER} `metering keys limit` raises the limits of a key.",
    ),
    "too-many-values": ProblemHelp(
        "The body has far more fields and values than the events of one request have.",
        "Split the batch and send the parts.",
    ),
    "too-many-webhook-endpoints": ProblemHelp(
        "The deployment has as many webhook endpoints as it may have.",
        "Delete endpoints that are not needed.",
    ),
    "unauthorized": ProblemHelp(
        "The request has no key, or one that is unknown, expired or revoked.",
        "Send `Authorization: Bearer mk_…` with a valid key. After a rotation, use the new secret.",
    ),
    "unsupported-body": ProblemHelp(
        "The `Content-Type`, its charset or the `Content-Encoding` is not one that this path takes.",
        "Use a media type that the operation lists, in UTF-8, and `gzip`, `zstd` or no encoding.",
    ),
    "unusable-time-zone": ProblemHelp(
        "The database no longer knows the customer's time zone, or knows it differently.",
        "Set another time zone: `metering customers set CUSTOMER --time-zone Europe/Berlin`.",
    ),
    "webhook-endpoint-disabled": ProblemHelp(
        "The endpoint is disabled, so nothing is sent to it.",
        'Enable it first: `PATCH /v1/webhook-endpoints/{endpoint_id}` with `{"enabled": true}`.',
    ),
}

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Metering</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; }}
code {{ font-family: ui-monospace, monospace; }}
</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def problem_types() -> list[ProblemType]:
    """Each kind of problem once, by its slug."""
    found = {problem.slug: problem for problem in (*PROBLEMS.values(), INTERNAL, METHOD_NOT_ALLOWED)}
    return [found[slug] for slug in sorted(found)]


@router.get("/problems")
@open_to_all
def list_problems() -> Response:
    """All kinds of problems, each with a link to its page."""
    items = "\n".join(
        f'<li><a href="/problems/{each.slug}">{escape(each.title)}</a> ({each.status} {each.slug})</li>'
        for each in problem_types()
    )
    return _page("Problems of the API", f"<ul>\n{items}\n</ul>")


@router.get("/problems/{slug}")
@open_to_all
def show_problem(slug: str) -> Response:
    """One kind of problem."""
    problem = next((each for each in problem_types() if each.slug == slug), None)
    if problem is None:
        raise NotFoundError("there is no such problem type")
    return _page(problem.title, "\n".join(_paragraphs(problem, PROBLEM_HELP[slug])))


def _paragraphs(problem: ProblemType, help_text: ProblemHelp) -> Iterator[str]:
    yield f"<p>HTTP status {problem.status} · <code>/problems/{problem.slug}</code></p>"
    yield f"<h2>When it occurs</h2>\n<p>{_with_code(help_text.when)}</p>"
    yield f"<h2>What to do</h2>\n<p>{_with_code(help_text.do)}</p>"
    yield "<p>The field <code>detail</code> of the answer says what is wrong with that request.</p>"
    yield '<p><a href="/problems">All problems</a> · <a href="/docs">All operations</a></p>'


def _with_code(text: str) -> str:
    """Text as HTML, with code where it has backticks."""
    parts = escape(text, quote=False).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))


def _page(title: str, body: str) -> HTMLResponse:
    return HTMLResponse(_PAGE.format(title=escape(title), body=f"<h1>{escape(title)}</h1>\n{body}"))
