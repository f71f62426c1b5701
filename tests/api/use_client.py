"""Uses the generated client as its users do; prints what it saw as JSON. Runs in the generator's environment.

Arguments: the URL of the API, a key with role admin, and the number of an invoice.
"""

import json
import sys
from datetime import UTC, datetime

from metering_client import AuthenticatedClient
from metering_client.api.charges import list_charges
from metering_client.api.customers import put_customer
from metering_client.api.events import list_stream_events, post_events
from metering_client.api.invoices import get_invoice, get_statement
from metering_client.api.streams import get_receipt, get_stream
from metering_client.api.totals import list_totals
from metering_client.models import (
    AcceptedEvents,
    CustomerInput,
    EventsProblem,
    Granularity,
    Problem,
    StatementFormat,
    StreamEnd,
    StreamEndData,
    StreamEndDataOutcome,
    StreamStart,
    StreamStartData,
    TokenDelivered,
    TokenDeliveredData,
)

AT = datetime(2026, 11, 23, 15, tzinfo=UTC)


def batch(stream_id: str, *, tokens: int) -> list[StreamStart | TokenDelivered | StreamEnd]:
    """The events of a stream; a negative count is invalid."""
    shared = {"specversion": "1.0", "source": "/gateways/client", "subject": "acme", "time": AT}
    return [
        StreamStart(
            **shared,
            type_="stream-start",
            id=f"{stream_id}:start",
            data=StreamStartData(
                stream_id=stream_id, provider="anthropic", model="claude-opus-4.7", input_tokens=812
            ),
        ),
        TokenDelivered(
            **shared,
            type_="token-delivered",
            id=f"{stream_id}:t:1",
            data=TokenDeliveredData(stream_id=stream_id, seq=1, output_tokens=tokens),
        ),
        StreamEnd(
            **shared,
            type_="stream-end",
            id=f"{stream_id}:end",
            data=StreamEndData(stream_id=stream_id, outcome=StreamEndDataOutcome.COMPLETED),
        ),
    ]


def main(url: str, key: str, number: str) -> None:
    """Post, read, be refused, download."""
    client = AuthenticatedClient(base_url=url, token=key)
    posted = post_events.sync(client=client, body=batch("client", tokens=-4))
    assert isinstance(posted, AcceptedEvents), posted
    alone = post_events.sync(client=client, body=batch("client", tokens=37)[1])
    assert isinstance(alone, AcceptedEvents), alone
    none = post_events.sync(client=client, body=batch("client", tokens=-4)[1:2])
    assert isinstance(none, EventsProblem), none
    stream = get_stream.sync(customer_id="acme", stream_id="client", client=client)
    events = list_stream_events.sync(customer_id="acme", stream_id="client", client=client)
    receipt = get_receipt.sync(customer_id="acme", stream_id="client", client=client)
    missing = get_stream.sync(customer_id="acme", stream_id="none", client=client)
    assert isinstance(missing, Problem), missing
    totals = list_totals.sync(
        client=client,
        from_=AT,
        to=datetime(2026, 12, 1, tzinfo=UTC),
        group_by="model",
        granularity=Granularity.DAY,
    )
    refused = list_charges.sync(client=client, cursor="nope")
    assert isinstance(refused, Problem), refused
    pdf = get_statement.sync_detailed(invoice_id=number, format_=StatementFormat.PDF, client=client)
    page = get_statement.sync(invoice_id=number, format_=StatementFormat.HTML, client=client)
    customer = put_customer.sync(customer_id="acme", client=client, body=CustomerInput(name="Acme"))
    seen = {
        "accepted": posted.accepted,
        "rejected": [[each.index, each.id, each.code, each.detail] for each in posted.rejected],
        "alone": alone.accepted,
        "none": [none.type_, none.status, [each.id for each in none.rejected]],
        "stream": [stream.state.value, stream.usage.output_tokens, stream.started_at.isoformat()],
        "events": [type(each.event).__name__ for each in events.data],
        "receipt": receipt.customer_id,
        "missing": [missing.type_, missing.status],
        "totals": [[row.start.isoformat(), row.model, row.accrued_usd_cents] for row in totals.data],
        "refused": [refused.type_, refused.status, refused.detail],
        "pdf": pdf.content[:5].decode(),
        "page": page[:15],
        "customer": customer.name,
        "charges": len(list_charges.sync(client=client).data),
        "billed_cents": get_invoice.sync(invoice_id=number, client=client).billed_cents,
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
