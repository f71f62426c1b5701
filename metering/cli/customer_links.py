"""`metering customers link`: customers become Stripe customers, which receive their invoices."""

from collections.abc import Sequence
from typing import Annotated

import typer

from metering.cli.asking_stripe import stripe_patience, tell_what_is_done
from metering.cli.options import AsJson
from metering.cli.progress import progress_bar
from metering.cli.service import operator
from metering.core.clock import utc_now
from metering.customers.queries.customers import UnlinkedCustomer
from metering.server.bootstrap import Service, build_service
from metering.server.pusher import build_pusher
from metering.server.settings import load_settings
from metering.server.terminal.output import counted, say, show
from metering.stripe.customer_links import CustomerLink
from metering.stripe.link_customers import CreatedAtStripe, create_at_stripe, find_links, link, list_unlinked
from metering.stripe.push_due import Pusher

app = typer.Typer()


@app.command("link", epilog="Example: metering customers link --from-stripe --yes")
def link_them(
    from_stripe: Annotated[
        bool, typer.Option("--from-stripe", help="Find existing Stripe customers by metadata or e-mail.")
    ] = False,
    create: Annotated[
        bool, typer.Option("--create", help="Create a Stripe customer for each customer without one.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write the links. Default: only show them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Link customers to Stripe customers, which receive their invoices. Only shows the links without --yes.

    --from-stripe finds Stripe customers with our ID as their e-mail or in their metadata (metering_customer or
    customer_id). --create creates a Stripe customer for each customer that is not linked and not found there, and
    links those that an earlier run has created. Exits with 2 if Stripe refuses some.
    """
    if from_stripe == create:
        raise typer.BadParameter("give either --from-stripe or --create")
    service = build_service(load_settings())
    pusher = build_pusher(service, patience=stripe_patience())
    with tell_what_is_done(lambda: "nothing was linked; run the command again"):
        # A database that was restored from a backup may not know whom it has created there.
        links = find_links(engine=service.engine, port=pusher.port)
    if create:
        rows = _create(service, pusher, links, yes=yes, as_json=as_json)
    else:
        rows = [
            {
                "customer_id": each.customer_id,
                "stripe_customer_id": each.stripe_customer_id,
                "by": each.reason.value,
                "problem": None
                if each.stripe_customer_id
                else f"more than one matches: {', '.join(each.candidates)}",
            }
            for each in links
        ]
        show(rows, as_json=as_json, empty="no Stripe customer matches one of ours")
        if yes:
            linked = link(engine=service.engine, links=links, by=operator(), now=utc_now())
            say(f"{counted(linked, 'customer')} linked")
    if rows and not yes:
        say("nothing was changed: run it with --yes")


def _create(
    service: Service, pusher: Pusher, links: Sequence[CustomerLink], *, yes: bool, as_json: bool
) -> list[dict[str, str | None]]:
    """Create the customers that are not at Stripe, if `yes`; the rows that were shown.

    Raises:
        Exit: with 2, Stripe has refused some.
    """
    ours, others = (
        [each for each in links if each.is_ours],
        {each.customer_id for each in links if not each.is_ours},
    )
    at_stripe = {each.customer_id: each.stripe_customer_id for each in ours}
    unlinked = [each for each in list_unlinked(engine=service.engine) if each.customer_id not in others]
    if others:
        say(f"{counted(len(others), 'customer')} may be at Stripe already: see --from-stripe")
    made = CreatedAtStripe(created={}, left={})
    if yes:
        linked = link(engine=service.engine, links=ours, by=operator(), now=utc_now())
        if linked:
            say(f"{counted(linked, 'customer')} linked, which an earlier run had created at Stripe")
        made = _create_all(service, pusher, [each for each in unlinked if each.customer_id not in at_stripe])
        at_stripe |= made.created
    rows = [
        {
            "customer_id": each.customer_id,
            "name": each.name,
            "stripe_customer_id": at_stripe.get(each.customer_id),
            "problem": made.left.get(each.customer_id),
        }
        for each in unlinked
    ]
    show(rows, as_json=as_json, empty="no customer has to be created at Stripe")
    if yes:
        say(f"{counted(len(made.created), 'Stripe customer')} created and linked")
    if made.left:
        say(f"{counted(len(made.left), 'customer')} could not be created: see the reasons, then run it again")
        raise typer.Exit(2)
    return rows


def _create_all(service: Service, pusher: Pusher, missing: Sequence[UnlinkedCustomer]) -> CreatedAtStripe:
    created = 0

    def note(done: int) -> None:
        nonlocal created
        created = done
        progress(done)

    def what_is_done() -> str:
        return f"{created:,} of {len(missing):,} customers are created and linked; run the command again"

    with tell_what_is_done(what_is_done), progress_bar("creating customers") as progress:
        return create_at_stripe(
            engine=service.engine,
            port=pusher.port,
            environment=pusher.terms.environment,
            customers=missing,
            now=utc_now(),
            by=operator(),
            progress=note,
        )
