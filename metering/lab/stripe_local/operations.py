"""The handler of each operation, and a request's way through limit, fault and idempotency key to its answer."""

import asyncio
from collections import deque
from collections.abc import Callable

from metering.lab.stripe_local import (
    credit_notes,
    customers,
    invoice_items,
    invoice_lines,
    invoices,
    objects,
    search,
    test_clocks,
)
from metering.lab.stripe_local.description import Operation, coerce
from metering.lab.stripe_local.errors import RefusedError
from metering.lab.stripe_local.faults import (
    Fault,
    Faults,
    PlannedFault,
    RateLimits,
    internal_error,
    raise_before,
    raise_throttle,
)
from metering.lab.stripe_local.idempotency import Answer, KeyedAnswers, fingerprint
from metering.lab.stripe_local.store import Document, Store

# Takes the store, the parameters in the path and those of the form.
Handler = Callable[[Store, dict[str, str], Document], Document]

_MAX_REQUESTS = 10_000


def _balance(*_: object) -> Document:
    available = [{"amount": 0, "currency": "usd"}]
    return {"object": "balance", "livemode": False, "available": available, "pending": []}


def _plain(act: Callable[[Store, Document], Document]) -> Handler:
    return lambda store, _, params: act(store, params)


def _of(name: str, act: Callable[[Store, str, Document], Document]) -> Handler:
    return lambda store, path, params: act(store, path[name], params)


def _by_id(name: str, act: Callable[[Store, str], Document]) -> Handler:
    return lambda store, path, _: act(store, path[name])


HANDLERS: dict[str, Handler] = {
    "GET /v1/balance": _balance,
    "POST /v1/customers": _plain(customers.create),
    "GET /v1/customers": _plain(customers.list_all),
    "GET /v1/customers/search": _plain(search.search),
    "GET /v1/customers/{customer}": _of("customer", customers.read),
    "POST /v1/customers/{customer}": _of("customer", customers.update),
    "GET /v1/customers/{customer}/balance_transactions": _of("customer", customers.list_transactions),
    "POST /v1/customers/{customer}/balance_transactions": _of("customer", customers.create_transaction),
    "POST /v1/invoices": _plain(invoices.create),
    "GET /v1/invoices": _plain(invoices.list_all),
    "GET /v1/invoices/{invoice}": _by_id("invoice", invoices.read),
    "POST /v1/invoices/{invoice}": _of("invoice", invoices.update),
    "DELETE /v1/invoices/{invoice}": _by_id("invoice", invoices.delete),
    "GET /v1/invoices/{invoice}/lines": _of("invoice", invoice_lines.list_all),
    "POST /v1/invoices/{invoice}/add_lines": _of("invoice", invoice_lines.add),
    "POST /v1/invoices/{invoice}/update_lines": _of("invoice", invoice_lines.update),
    "POST /v1/invoices/{invoice}/remove_lines": _of("invoice", invoice_lines.remove),
    "POST /v1/invoices/{invoice}/finalize": _of("invoice", invoices.finalize),
    "POST /v1/invoices/{invoice}/pay": _by_id("invoice", invoices.pay),
    "POST /v1/invoices/{invoice}/void": _by_id("invoice", invoices.void),
    "POST /v1/invoices/{invoice}/mark_uncollectible": _by_id("invoice", invoices.mark_uncollectible),
    "POST /v1/invoices/{invoice}/send": _of("invoice", invoices.send),
    "POST /v1/invoiceitems": _plain(invoice_items.create),
    "GET /v1/invoiceitems": _plain(invoice_items.list_all),
    "GET /v1/invoiceitems/{invoiceitem}": _by_id("invoiceitem", invoice_items.read),
    "POST /v1/invoiceitems/{invoiceitem}": _of("invoiceitem", invoice_items.update),
    "DELETE /v1/invoiceitems/{invoiceitem}": _by_id("invoiceitem", invoice_items.delete),
    "POST /v1/credit_notes": _plain(credit_notes.create),
    "GET /v1/credit_notes": _plain(credit_notes.list_all),
    "GET /v1/credit_notes/preview": _plain(credit_notes.preview),
    "GET /v1/credit_notes/{credit_note}/lines": _of("credit_note", credit_notes.list_lines),
    "GET /v1/credit_notes/{id}": _by_id("id", credit_notes.read),
    "POST /v1/credit_notes/{id}": _of("id", credit_notes.update),
    "POST /v1/credit_notes/{id}/void": _by_id("id", credit_notes.void),
    "GET /v1/events": _plain(objects.list_events),
    "GET /v1/events/{id}": _by_id("id", objects.read_event),
    "POST /v1/test_helpers/test_clocks": _plain(test_clocks.create),
    "GET /v1/test_helpers/test_clocks": _plain(test_clocks.list_all),
    "GET /v1/test_helpers/test_clocks/{test_clock}": _by_id("test_clock", test_clocks.read),
    "POST /v1/test_helpers/test_clocks/{test_clock}/advance": _of("test_clock", test_clocks.advance),
}


class NoAnswerError(Exception):
    """A fault closes the connection without an answer."""


class Operations:
    """Answers requests, each in one transaction. An operation without a handler is answered 501."""

    def __init__(self, store: Store, limits: RateLimits) -> None:
        self.store = store
        self.limits = limits
        self.keys = KeyedAnswers(store)
        self.faults = Faults()
        self.requests: deque[Document] = deque(maxlen=_MAX_REQUESTS)

    async def answer(
        self, operation: Operation, path: dict[str, str], form: Document, key: str | None
    ) -> tuple[Answer, bool]:
        """The answer, and whether it is the kept answer of an earlier request.

        Raises:
            NoAnswerError: a fault wants the connection closed.
        """
        record: Document = {"endpoint": operation.endpoint, "path": path, "idempotency_key": key, "params": form}
        record["fault"] = None
        self.requests.append(record)
        planned: PlannedFault | None = None
        try:
            self.limits.take(operation.endpoint)
            planned = self.faults.take(operation.endpoint)
            if planned is not None:
                record["fault"] = planned.fault.value
                await self._wait(planned, key)
            answer, replayed = self._answer(operation, path, form, key, planned)
        except RefusedError as error:
            answer, replayed = Answer(error.status, error.document(), error.headers), False
        record |= {"status": answer.status, "replayed": replayed}
        if planned is not None and planned.fault in (Fault.LOST_REQUEST, Fault.LOST_REPLY):
            raise NoAnswerError
        return answer, replayed

    async def _wait(self, planned: PlannedFault, key: str | None) -> None:
        if planned.fault is Fault.SLOW:
            with self.keys.held(key):
                await asyncio.sleep(planned.seconds)

    def _answer(
        self,
        operation: Operation,
        path: dict[str, str],
        form: Document,
        key: str | None,
        planned: PlannedFault | None,
    ) -> tuple[Answer, bool]:
        handler = HANDLERS.get(operation.endpoint)
        if handler is None:
            message = f"the local Stripe does not have {operation.endpoint}"
            raise RefusedError(message, status=501, kind="api_error", kept=False)
        fault = planned.fault if planned else None
        if fault is Fault.LOST_REQUEST:
            return Answer(0, {}), False
        raise_throttle(fault)
        params = coerce(form, operation.schema, "")
        if key is None or operation.method != "POST":
            with self.store.atomic():
                return self._execute(handler, path, params, planned), False
        request = fingerprint(operation.endpoint, path, form)
        earlier = self.keys.earlier(key, request)
        if earlier is not None:
            return earlier, True
        try:
            with self.store.atomic():
                answer = self._execute(handler, path, params, planned)
                self.keys.keep(key, request, answer)
            return answer, False
        except RefusedError as error:
            if error.kept:
                with self.store.atomic():
                    self.keys.keep(key, request, Answer(error.status, error.document()))
            raise

    def _execute(
        self, handler: Handler, path: dict[str, str], params: Document, planned: PlannedFault | None
    ) -> Answer:
        raise_before(planned)
        document = invoices.shown(self.store, handler(self.store, path, params))
        if planned is not None and planned.fault is Fault.ERROR_AFTER:
            return Answer(500, internal_error().document())
        return Answer(200, document)

    def reset(self) -> None:
        """Remove all objects, faults and records, and restore the settings of the start."""
        self.store.reset()
        self.faults.clear()
        self.limits.reset()
        self.requests.clear()
