"""The port implemented with the `stripe` package, with a rate limit and with errors by their meaning."""

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar

import stripe

from metering.stripe.client.errors import (
    StripeError,
    StripeMissingError,
    StripeRefusedError,
    StripeThrottledError,
    StripeUnauthorizedError,
    StripeUncertainError,
)
from metering.stripe.client.limiter import Limiter
from metering.stripe.client.patience import IMPATIENT, Patience
from metering.stripe.client.port import Parameters, Written
from metering.stripe.client.records import (
    parse_customer,
    parse_snapshot,
)
from metering.stripe.snapshot import Snapshot, StripeCustomer

log = logging.getLogger(__name__)

# Seconds to connect and to read: longer than any of our requests takes. A lost answer costs this much time.
_TIMEOUT = (5.0, 30.0)
_PAGE = 100
# A throttled call had no effect, so it may be sent again as soon as the halved limit allows.
_THROTTLED_TRIES = 3
# Two million objects. A longer list is outside of what this client is made for.
_MAX_PAGES = 20_000

_LONGEST_RETRY_AFTER_SECONDS = 60.0

AnswerT = TypeVar("AnswerT")


class StripeClientPort:
    """`StripePort` over HTTP, to Stripe or to a server with the same API at `api_base`."""

    def __init__(
        self, *, api_key: str, api_base: str | None, limiter: Limiter, patience: Patience = IMPATIENT
    ) -> None:
        self._client = stripe.StripeClient(
            api_key,
            base_addresses={"api": api_base} if api_base else {},
            max_network_retries=0,
            http_client=stripe.RequestsClient(timeout=_TIMEOUT),
        )
        self._limiter = limiter
        self._patience = patience
        # Test clocks exist in test mode only.
        self._has_test_clocks = "_live_" not in api_key

    def list_invoices(self, *, stripe_customer_id: str | None, created_from: datetime) -> Iterator[Snapshot]:
        """See the port."""
        query: dict[str, Any] = {}
        if stripe_customer_id is not None:
            query["customer"] = stripe_customer_id
        if stripe_customer_id is None or not self._has_test_clocks:
            query["created"] = {"gte": int(created_from.timestamp())}
        for document in self._pages("GET /v1/invoices", self._client.v1.invoices.list, query):
            yield self._whole(document)

    def get_invoice(self, *, stripe_invoice_id: str) -> Snapshot | None:
        """See the port."""
        try:
            document, _ = self._call(
                "GET /v1/invoices/{invoice}", lambda: self._client.v1.invoices.retrieve(stripe_invoice_id)
            )
        except StripeMissingError:
            return None
        return None if document.get("deleted") else self._whole(document)

    def create_invoice(self, *, parameters: Parameters, idempotency_key: str) -> Written:
        """See the port."""
        return self._write(
            "POST /v1/invoices",
            lambda: self._client.v1.invoices.create(_params(parameters), _options(idempotency_key)),
        )

    def change_lines(
        self, *, stripe_invoice_id: str, change: str, parameters: Parameters, idempotency_key: str
    ) -> Written:
        """See the port."""
        method = getattr(self._client.v1.invoices, change)
        return self._write(
            f"POST /v1/invoices/{{invoice}}/{change}",
            lambda: method(stripe_invoice_id, _params(parameters), _options(idempotency_key)),
        )

    def finalize_invoice(self, *, stripe_invoice_id: str, parameters: Parameters, idempotency_key: str) -> Written:
        """See the port."""
        return self._write(
            "POST /v1/invoices/{invoice}/finalize",
            lambda: self._client.v1.invoices.finalize_invoice(
                stripe_invoice_id, _params(parameters), _options(idempotency_key)
            ),
        )

    def delete_draft(self, *, stripe_invoice_id: str) -> None:
        """See the port."""
        try:
            self._call("DELETE /v1/invoices/{invoice}", lambda: self._client.v1.invoices.delete(stripe_invoice_id))
        except StripeMissingError:
            log.info("draft already deleted", extra={"stripe_invoice_id": stripe_invoice_id})

    def create_credit_note(self, *, parameters: Parameters, idempotency_key: str) -> Written:
        """See the port."""
        document, answer = self._call(
            "POST /v1/credit_notes",
            lambda: self._client.v1.credit_notes.create(_params(parameters), _options(idempotency_key)),
        )
        return Written(stripe_object_id=document["id"], snapshot=None, **_facts(answer.headers))

    def list_customers(self) -> Iterator[StripeCustomer]:
        """See the port."""
        for document in self._pages("GET /v1/customers", self._client.v1.customers.list, {}):
            yield parse_customer(document)

    def create_customer(self, *, parameters: Parameters, idempotency_key: str) -> StripeCustomer:
        """See the port."""
        document, _ = self._call(
            "POST /v1/customers",
            lambda: self._client.v1.customers.create(_params(parameters), _options(idempotency_key)),
        )
        return parse_customer(document)

    def _write(self, endpoint: str, send: Callable[[], Any]) -> Written:
        document, answer = self._call(endpoint, send)
        return Written(stripe_object_id=document["id"], snapshot=self._whole(document), **_facts(answer.headers))

    def _whole(self, document: Mapping[str, Any]) -> Snapshot:
        """A snapshot with all lines. The document has at most the first ten of them, and sometimes no list."""
        lines = document.get("lines")
        found = list(lines["data"]) if lines else []
        if lines is None or lines.get("has_more"):
            invoice_id = document["id"]
            found = list(
                self._pages(
                    "GET /v1/invoices/{invoice}/lines",
                    lambda params: self._client.v1.invoices.line_items.list(invoice_id, params),
                    {},
                )
            )
        return parse_snapshot(document, found)

    def _pages(
        self, endpoint: str, ask: Callable[[Any], Any], query: Mapping[str, Any]
    ) -> Iterator[Mapping[str, Any]]:
        after: dict[str, str] = {}
        for _ in range(_MAX_PAGES):
            params = {**query, **after, "limit": _PAGE}
            document, _answer = self._call(endpoint, lambda params=params: ask(params))  # type: ignore[misc]
            yield from document["data"]
            if not document["has_more"] or not document["data"]:
                return
            after = {"starting_after": document["data"][-1]["id"]}
        raise StripeRefusedError(f"{endpoint}: more than {_MAX_PAGES:,} pages")

    def _call(self, endpoint: str, send: Callable[[], Any]) -> tuple[Mapping[str, Any], Any]:
        """Send, and as often again as patience allows: each write has an idempotency key, or may be repeated."""
        return self._patience.run(lambda: self._call_once(endpoint, send))

    def _call_once(self, endpoint: str, send: Callable[[], Any]) -> tuple[Mapping[str, Any], Any]:
        """Send within the rate limit, and again when throttled; return the answer's JSON and the response."""
        for attempt in range(_THROTTLED_TRIES):
            self._limiter.acquire(endpoint)
            try:
                answer = send().last_response
            except stripe.StripeError as error:
                ours = _error_of(endpoint, error)
                if not isinstance(ours, StripeThrottledError) or ours.replayed:
                    raise ours from error
                self._limiter.throttled(endpoint)
                if attempt + 1 == _THROTTLED_TRIES:
                    raise ours from error
            else:
                return answer.data, answer
        raise AssertionError("the last try returns or raises")


def _params(parameters: Parameters) -> Any:
    return dict(parameters)


def _options(idempotency_key: str) -> Any:
    return {"idempotency_key": idempotency_key}


def _facts(headers: Mapping[str, str]) -> dict[str, Any]:
    return {"request_id": headers.get("request-id"), "replayed": _replayed(headers)}


def _replayed(headers: Mapping[str, str]) -> bool:
    return headers.get("idempotent-replayed", "").lower() == "true"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    given = headers.get("retry-after", "")
    return min(float(given), _LONGEST_RETRY_AFTER_SECONDS) if given.isdecimal() else None


def _error_of(endpoint: str, error: stripe.StripeError) -> StripeError:
    """Our error for one of the package. It is uncertain where the call may have taken effect."""
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    message = f"{endpoint}: {' '.join(str(error.user_message or error).split())}"
    given = _facts(headers)
    status = error.http_status
    if status is None or status >= 500 or status in (409, 429):
        ours = (StripeThrottledError if status == 429 else StripeUncertainError)(message, **given)
        ours.retry_after = _retry_after(headers)
        return ours
    if status in (401, 403):
        return StripeUnauthorizedError(message, **given)
    kind = StripeMissingError if status == 404 or error.code == "resource_missing" else StripeRefusedError
    return kind(message, code=error.code, param=getattr(error, "param", None), **given)
