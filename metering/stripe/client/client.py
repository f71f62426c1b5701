"""The port by the stock `stripe` package: a limit on the rate, and errors by what they mean."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from metering.stripe.client.port import Parameters, Written
from metering.stripe.client.records import (
    parse_customer,
    parse_snapshot,
)
from metering.stripe.snapshot import Snapshot, StripeCustomer

log = logging.getLogger(__name__)

# One more than any request of ours should take; a lost answer costs this much.
_TIMEOUT = (5.0, 30.0)
_PAGE = 100
# A call that was throttled did nothing, and may be sent again as soon as the halved limit lets it.
_THROTTLED_TRIES = 3
# A customer with more invoices since a month began, or an account with more in a month, is not what this is for.
_MAX_PAGES = 20_000

AnswerT = TypeVar("AnswerT")


class StripeClientPort:
    """Stripe, or something that speaks like it at another address."""

    def __init__(self, *, api_key: str, api_base: str | None, limiter: Limiter) -> None:
        self._client = stripe.StripeClient(
            api_key,
            base_addresses={"api": api_base} if api_base else {},
            max_network_retries=0,
            http_client=stripe.RequestsClient(timeout=_TIMEOUT),
        )
        self._limiter = limiter

    def list_invoices(
        self, *, stripe_customer_id: str | None, created_from: datetime, created_to: datetime | None = None
    ) -> Iterator[Snapshot]:
        """See the port."""
        created = {"gte": int(created_from.timestamp())}
        if created_to is not None:
            created["lt"] = int(created_to.timestamp())
        query: dict[str, Any] = {"created": created}
        if stripe_customer_id is not None:
            query["customer"] = stripe_customer_id
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

    def update_invoice(self, *, stripe_invoice_id: str, parameters: Parameters, idempotency_key: str) -> Written:
        """See the port."""
        return self._write(
            "POST /v1/invoices/{invoice}",
            lambda: self._client.v1.invoices.update(
                stripe_invoice_id, _params(parameters), _options(idempotency_key)
            ),
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
            log.info("a draft was gone already", extra={"stripe_invoice_id": stripe_invoice_id})

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

    def check(self) -> Sequence[str]:
        """See the port."""
        document, _ = self._call("GET /v1/balance", self._client.v1.balance.retrieve)
        return ["live money" if document.get("livemode") else "test mode"]

    def _write(self, endpoint: str, send: Callable[[], Any]) -> Written:
        document, answer = self._call(endpoint, send)
        return Written(stripe_object_id=document["id"], snapshot=self._whole(document), **_facts(answer.headers))

    def _whole(self, document: Mapping[str, Any]) -> Snapshot:
        """With all of its lines: an invoice's own list has the first ten, if it has one."""
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
        """Send within the limit, and again what was throttled; the answer's JSON, and its response."""
        for attempt in range(_THROTTLED_TRIES):
            self._limiter.acquire(endpoint)
            try:
                answer = send().last_response
            except stripe.StripeError as error:
                meant = _meaning(endpoint, error)
                if not isinstance(meant, StripeThrottledError) or meant.replayed:
                    raise meant from error
                self._limiter.throttled(endpoint)
                if attempt + 1 == _THROTTLED_TRIES:
                    raise meant from error
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


def _meaning(endpoint: str, error: stripe.StripeError) -> StripeError:
    """A failure of the package as one of ours. What cannot be told apart from success is uncertain."""
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    message = f"{endpoint}: {error.user_message or error}"
    given = _facts(headers)
    status = error.http_status
    if status is None or status >= 500 or status == 409:
        return StripeUncertainError(message, **given)
    if status == 429:
        return StripeThrottledError(message, **given)
    if status in (401, 403):
        return StripeUnauthorizedError(message, **given)
    kind = StripeMissingError if status == 404 or error.code == "resource_missing" else StripeRefusedError
    return kind(message, code=error.code, param=getattr(error, "param", None), **given)
