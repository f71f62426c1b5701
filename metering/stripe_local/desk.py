"""The desk: takes a request through key, description, fault and operation to its answer."""

import asyncio
import copy
from collections import deque
from collections.abc import Callable
from typing import Any

from metering.stripe_local import credit_notes, customers, events, invoice_items, invoice_lines, invoices
from metering.stripe_local.description import Operation, coerce
from metering.stripe_local.errors import RefusedError
from metering.stripe_local.faults import Fault, Faults, internal_error, raise_before
from metering.stripe_local.idempotency import Answer, KeyedAnswers
from metering.stripe_local.store import Document, Store

_MAX_REQUESTS = 10_000

Handler = Callable[[Store, dict[str, str], Document], Document]

# By operation; the path's parts come before the parameters.
_HANDLERS: dict[str, Handler] = {
    "GET /v1/balance": lambda *_: {
        "object": "balance",
        "livemode": False,
        "available": [{"amount": 0, "currency": "usd"}],
        "pending": [],
    },
    "POST /v1/customers": lambda store, _, params: customers.create(store, params),
    "GET /v1/customers": lambda store, _, params: customers.list_all(store, params),
    "GET /v1/customers/{customer}": lambda store, path, _: customers.read(store, path["customer"]),
    "POST /v1/customers/{customer}": lambda store, path, params: customers.update(store, path["customer"], params),
    "GET /v1/customers/{customer}/balance_transactions": lambda store, path, params: customers.list_transactions(
        store, path["customer"], params
    ),
    "POST /v1/customers/{customer}/balance_transactions": lambda store, path, params: customers.create_transaction(
        store, path["customer"], params
    ),
    "POST /v1/invoices": lambda store, _, params: invoices.create(store, params),
    "GET /v1/invoices": lambda store, _, params: invoices.list_all(store, params),
    "GET /v1/invoices/{invoice}": lambda store, path, _: invoices.read(store, path["invoice"]),
    "POST /v1/invoices/{invoice}": lambda store, path, params: invoices.update(store, path["invoice"], params),
    "DELETE /v1/invoices/{invoice}": lambda store, path, _: invoices.delete(store, path["invoice"]),
    "GET /v1/invoices/{invoice}/lines": lambda store, path, params: invoice_lines.list_all(
        store, path["invoice"], params
    ),
    "POST /v1/credit_notes": lambda store, _, params: credit_notes.create(store, params),
    "GET /v1/credit_notes": lambda store, _, params: credit_notes.list_all(store, params),
    "GET /v1/credit_notes/{id}": lambda store, path, _: credit_notes.read(store, path["id"]),
    "POST /v1/credit_notes/{id}/void": lambda store, path, params: credit_notes.void(store, path["id"], params),
    "GET /v1/events": lambda store, _, params: events.list_all(store, params),
    "GET /v1/events/{id}": lambda store, path, _: events.read(store, path["id"]),
    "POST /v1/invoiceitems": lambda store, _, params: invoice_items.create(store, params),
    "GET /v1/invoiceitems": lambda store, _, params: invoice_items.list_all(store, params),
}


def _of_invoice(act: Callable[[Store, str, Document], Document]) -> Handler:
    return lambda store, path, params: act(store, path["invoice"], params)


_HANDLERS |= {
    f"POST /v1/invoices/{{invoice}}/{name}": _of_invoice(act)
    for name, act in {
        "add_lines": invoice_lines.add,
        "update_lines": invoice_lines.update,
        "remove_lines": invoice_lines.remove,
        "finalize": invoices.finalize,
        "pay": invoices.pay,
        "void": invoices.void,
        "mark_uncollectible": invoices.mark_uncollectible,
        "send": invoices.send,
    }.items()
}


class LostError(Exception):
    """No answer goes out: the connection is closed."""


class Desk:
    """Answers one request after another; each changes what it changes at once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.keys = KeyedAnswers(store)
        self.faults = Faults()
        self.requests: deque[Document] = deque(maxlen=_MAX_REQUESTS)

    async def answer(
        self, operation: Operation, path: dict[str, str], form: Document, key: str | None
    ) -> tuple[Answer, bool]:
        """The answer, and whether it is an earlier one.

        Raises:
            LostError: a fault says that none goes out.
        """
        record: Document = {"endpoint": operation.endpoint, "path": path, "idempotency_key": key, "params": form}
        self.requests.append(record)
        planned = self.faults.take(operation.endpoint)
        fault = planned.fault if planned else None
        record["fault"] = fault.value if fault else None
        if planned is not None and fault is Fault.SLOW:
            with self.keys.held(key):
                await asyncio.sleep(planned.seconds)
        try:
            answer, replayed = self._answer(operation, path, form, key, fault)
        except RefusedError as error:
            answer, replayed = Answer(error.status, error.document()), False
        record |= {"status": answer.status, "replayed": replayed}
        if fault in (Fault.LOST_REQUEST, Fault.LOST_REPLY):
            raise LostError
        return answer, replayed

    def _answer(
        self, operation: Operation, path: dict[str, str], form: Document, key: str | None, fault: Fault | None
    ) -> tuple[Answer, bool]:
        handler = _HANDLERS.get(operation.endpoint)
        if handler is None:
            message = f"the local Stripe does not do {operation.endpoint}"
            raise RefusedError(message, status=501, kind="api_error", kept=False)
        if fault is Fault.LOST_REQUEST:
            return Answer(0, {}), False
        if fault in (Fault.THROTTLE, Fault.THROTTLE_NO_HEADER):
            raise_before(fault)
        params = coerce(form, operation.schema, "")
        if key is None or operation.method != "POST":
            return self._carry_out(handler, path, params, fault), False
        earlier = self.keys.take(key, f"{operation.endpoint} {sorted(path.items())}", form)
        if earlier is not None:
            return earlier, True
        answer: Answer | None = None
        try:
            answer = self._carry_out(handler, path, params, fault)
            return answer, False
        except RefusedError as error:
            answer = Answer(error.status, error.document()) if error.kept else None
            raise
        finally:
            self.keys.end(key, f"{operation.endpoint} {sorted(path.items())}", form, answer)

    def _carry_out(self, handler: Handler, path: dict[str, str], params: Document, fault: Fault | None) -> Answer:
        if fault is not None:
            raise_before(fault)
        document = invoices.shown(self.store, handler(self.store, path, params))
        if fault is Fault.ERROR_AFTER:
            raise internal_error()
        # As it is now: what is kept under a key does not change with the object.
        return Answer(200, copy.deepcopy(document))

    def reset(self) -> None:
        """Forget everything."""
        self.store.reset()
        self.faults.clear()
        self.requests.clear()


def describe_requests(desk: Desk) -> list[Any]:
    """What was asked, oldest first."""
    return list(desk.requests)
