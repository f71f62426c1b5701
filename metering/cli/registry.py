"""All commands by subject, each with the sentence that lists it: enough for `--help`, which imports none of them.

A test compares each sentence with the command's own help.
"""

from collections.abc import Mapping

from metering.cli.lazy import LazyCommand, LazyCommands

START, MONTH_END, MONEY = "Start", "Month end", "Money"
PRICES, ACCESS, WATCH, RUN = "Prices", "Access", "Watch", "Run the parts"


def _command(place: str, panel: str, summary: str, example: str | None = None) -> LazyCommand:
    return LazyCommand(f"metering.cli.{place}", summary, panel, example)


def _group(place: str, panel: str, summary: str, *elsewhere: str, **commands: str) -> LazyCommands:
    """`elsewhere` are commands whose app is in another module, as `name module:app`."""
    places = dict(each.split() for each in elsewhere)
    return LazyCommands(
        summary,
        panel,
        {name: (f"metering.cli.{places.get(name, place)}", what) for name, what in commands.items()},
    )


COMMANDS: Mapping[str, LazyCommand | LazyCommands] = {
    "up": _command(
        "processes:up_command",
        START,
        "Start PostgreSQL, Valkey, API, dashboard, worker and beat together.",
        "up --data ./data --port 8000",
    ),
    "demo": _command(
        "extras:demo_command", START, "Run the whole product on sample data and check every figure.", "demo --keep"
    ),
    "doctor": _command("doctor:doctor_command", START, "Check database, clock, finalizer, queue and settings."),
    "invoices": _group(
        "invoices:app",
        MONTH_END,
        "Close months, create invoices, push them to Stripe.",
        "run invoice_runs:app",
        run="Close a month, create its invoices, and push them to Stripe.",
        list="List invoices, newest month first.",
        show="Show an invoice with its lines, and write its usage statement.",
    ),
    "reconcile": _command(
        "reconcile:reconcile_command",
        MONTH_END,
        "Compare every invoice with Stripe's and list the differences (drift).",
        "reconcile --period 2026-10 --repair",
    ),
    "drift": _group(
        "drift:app",
        MONTH_END,
        "Differences from Stripe that reconciliations found.",
        list="List what reconciliations found, newest first, with how it was repaired.",
    ),
    "export": _command(
        "export:export_command",
        MONTH_END,
        "Export a month's charges, invoice lines, or cost and usage in the FOCUS 1.2 format.",
        "export charges --period 2026-10 --out charges.csv",
    ),
    "customers": _group(
        "customers:app",
        MONEY,
        "Customers, their Stripe links and markups.",
        "link customer_links:app",
        list="List customers with their final cost of the current month.",
        show="Show a customer: details, this month's cost, markups, newest invoices.",
        set="Create a customer, or change the given properties.",
        link="Link customers to Stripe customers, which receive their invoices.",
        markup="Set a customer's markup, or list its markups if no percentage is given.",
    ),
    "totals": _command(
        "totals:totals_command",
        MONEY,
        "Sum usage and cost by customer, model or another property: final amounts, and accrued ones beside them.",
        "totals --period 2026-10 --by model",
    ),
    "streams": _group(
        "streams:app",
        MONEY,
        "Streams: what each used and costs, and its receipt.",
        list="List final streams with their cost, or those in progress with what they cost so far, latest first.",
        show="Show a stream: its state, its usage, its cost and the lines of its bill.",
        receipt="Print everything that a stream's cost follows from, as text, or as JSON that `metering verify`"
        " checks.",
    ),
    "adjustments": _group(
        "adjustments:app",
        MONEY,
        "Credits and corrections that a person books.",
        create="Book a credit or a correction, after showing what it does.",
        list="List credits and corrections, newest first.",
    ),
    "budgets": _group(
        "budgets:budgets",
        MONEY,
        "Limits on what may be spent, checked before each stream.",
        set="Make a budget, or change its limit, action or unknown price.",
        list="List budgets with what is spent, held and left in the current window.",
        end="End a budget: it refuses nothing from now on.",
        overruns="List what was booked beyond holds, newest first, with the reason of each.",
    ),
    "holds": _group(
        "budgets:holds",
        MONEY,
        "Money set aside for open streams.",
        list="List open holds: money set aside for streams whose charge is not booked yet.",
        release="Give back the hold of a stream that was not sent upstream.",
    ),
    "grants": _group(
        "grants:app",
        MONEY,
        "Prepaid and promotional money of customers, which pays for what they use.",
        create="Make a grant: money that pays for what the customer uses from now on.",
        list="List grants with what is left of each, newest first.",
        show="Show a grant, and its newest entries with the charges that it paid for.",
        void="Take back what is left of a grant, without money back.",
        refund="Take what is left out of a grant, and show which part of its price to pay back.",
    ),
    "balance": _command(
        "balances:balance_command",
        MONEY,
        "Show what a customer has left of its grants, and what of it expires when.",
        "balance acme",
    ),
    "deferred-revenue": _command(
        "balances:deferred_revenue_command",
        MONEY,
        "Show which part of the price of grants is deferred in a month, by grant and in all.",
        "deferred-revenue --period 2026-10",
    ),
    "backlog": _group(
        "backlog:app",
        MONEY,
        "Streams that need attention or a missing fact. They are not billed until they are settled.",
        list="List the streams in the backlog, longest waiting first, with the fix for each.",
        show="Show what a stream may be billed for, the facts that contradict each other, and what each decision"
        " books.",
        resolve="Settle a stream by decision. A terminal asks first, and says what is booked.",
    ),
    "verify": _command(
        "verify:verify_command",
        MONEY,
        "Recompute a receipt's usage, lines and sums, or an archive's streams from its events.",
        "verify acme 01J9",
    ),
    "rates": _group(
        "rates:app",
        PRICES,
        "Rate cards: what each model's tokens cost, by date.",
        **{
            "import": "Compare the installed genai-prices package with the current rates; add the changes with"
            " --approve.",
            "diff": "Show each price that an import would change, and what it changes for each customer in a"
            " month.",
            "list": "List rate cards, oldest first within a model.",
            "set": "Add a dated rate card for a model.",
        },
    ),
    "cancel-policy": _group(
        "cancel_policy:app",
        PRICES,
        "What a cancelled, failed, timed out or abandoned stream is billed for.",
        list="List the policies.",
        set="Add a dated policy for a provider.",
        simulate="Show what a month would have cost under another policy.",
    ),
    "upstream-price": _group(
        "upstream_price:app",
        PRICES,
        "Whether an upstream's own cost prices its models that have no rate.",
        list="List the settings.",
        set="Add a dated setting for a provider.",
    ),
    "rerate": _command(
        "corrections:rerate_command",
        PRICES,
        "Show what a month's streams would cost at today's prices, then book the differences.",
        "rerate --period 2026-10 --model gpt-5.5 --dry-run",
    ),
    "keys": _group(
        "access:keys",
        ACCESS,
        "API keys.",
        create="Create a key and show it once.",
        list="List all keys, without their secrets.",
        rotate="Give a key a new secret, under the same ID, and show it once.",
        revoke="Revoke a key for good.",
        limit="Set the limits of a key, in each API process.",
    ),
    "reader": _group(
        "access:reader",
        ACCESS,
        "PostgreSQL logins that read the reporting views, for Grafana, Metabase or psql.",
        create="Create a login and show its password once.",
        list="List all logins.",
        drop="Remove a login.",
    ),
    "audit-log": _group(
        "audit_log:app",
        ACCESS,
        "What admins changed over the API, in the dashboard or on the command line.",
        list="List actions, newest first.",
        export="Write all actions to a file, oldest first.",
    ),
    "alerts": _group(
        "alerts:app",
        WATCH,
        "Thresholds that notify by webhook, once per month, day or reconciliation.",
        create="Create an alert.",
        list="List alerts.",
        set="Change the given properties.",
        delete="Delete an alert.",
        occurrences="List occurrences, newest first.",
    ),
    "webhooks": _group(
        "webhooks:app",
        WATCH,
        "Endpoints that receive alerts, signed as Standard Webhooks.",
        create="Create an endpoint that receives messages from now on, and show its signing secret once.",
        list="List endpoints with their state, without secrets.",
        set="Change the given properties.",
        delete="Delete an endpoint and its secrets.",
        rotate="Give an endpoint a new secret and show it once.",
        test="Send a message of type webhook.test, once.",
        log="List deliveries with their result, newest first.",
        replay="Send a message again under its ID, or all that an endpoint has missed, up to 1,000 at a time.",
    ),
    "audit": _command(
        "audit:audit_command",
        WATCH,
        "Recompute every stream, charge, adjustment and total from the journal and compare them with what is"
        " stored.",
        "audit --period 2026-10",
    ),
    "migrate": _command("processes:migrate_command", RUN, "Migrate the database to this version."),
    "api": _command("api:api_command", RUN, "Run the API and the dashboard."),
    "worker": _command("workers:worker_command", RUN, "Run a worker, which finalizes streams."),
    "beat": _command("workers:beat_command", RUN, "Run beat, which wakes the workers on schedule."),
    "gateway": _command(
        "extras:gateway_command", RUN, "Run the reference gateway, which meters every completion."
    ),
    "archive": _group(
        "archive:app",
        RUN,
        "Move closed months out of the database into Parquet files, and back.",
        write="Write a closed month's streams and journal to a new folder, after an audit. Nothing is removed.",
        remove="Remove from the database what a folder holds, as its owner (METERING_MIGRATION_DATABASE_URL).",
        restore="Bring streams back into the database, as its owner: one, or all with the month's journal.",
        list="List the archives whose rows were removed from the database, oldest month first.",
    ),
    "backup": _command(
        "backup:backup_command",
        RUN,
        "Back up the database into a new folder, while it is in use.",
        "backup /backups/2026-11-29",
    ),
    "restore": _command(
        "backup:restore_command",
        RUN,
        "Restore a backup into an empty database or a new data folder: all of it, or nothing.",
        "restore /backups/2026-11-29 --into ./data",
    ),
    "bench": _group(
        "bench:app",
        RUN,
        "Benchmarks on this machine. They start their own servers and leave only the figures behind.",
        **{
            "ingest": "Measure durable events per second over HTTP, by request size and connections, against"
            " bare psycopg.",
            "holds": "Measure holds per second over HTTP, of one customer and of many, against a conditional"
            " UPDATE.",
            "finalize": "Measure streams per second that workers finalize, against a bare COPY and UPDATE.",
            "totals": "How long totals of a month take to read, question by question and a dashboard's page"
            " of them.",
            "rating": "Measure streams per second that one thread rates, over all models of the catalogue;"
            " starts no server.",
            "audit": "Measure journaled events per second of `metering audit`, and its memory.",
            "invoices": "Measure the time to close a month and create its invoices, without Stripe.",
            "push": "Measure how fast invoices are pushed to a local Stripe and reconciled, without a rate limit.",
            "exports": "Measure exported rows per second of each kind and format, and the memory.",
            "alerts": "Measure the evaluation of all customers' alerts, when none fires and when all fire.",
            "gateway": "Measure chunks per second, latency and CPU of the gateway, against a bare TCP"
            " pass-through.",
            "emitter": "Measure the microseconds of a call of the embedded emitter, against an append to a queue.",
            "resume": "Measure what an X-Resume-Key costs: the first chunk, and CPU per chunk, also with a second"
            " reader.",
            "speed": "Measure the headline speeds in one run, each beside its floor, in about a quarter of an"
            " hour.",
            "neighbours": "Measure how long a quiet client waits beside noisy ones: large and bad bodies, readers,"
            " connections.",
            "growth": "Measure the same work on ever larger databases. A hundred million charges take 60 GB of"
            " disk and an hour.",
            "chaos": "Run the whole product under faults, and compare every cost, month and invoice.",
            "reliability-page": "Write the report of a chaos run as a Markdown page.",
            "page": "Write the results of a folder as a Markdown page.",
        },
    ),
}
