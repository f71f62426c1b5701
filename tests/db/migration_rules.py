"""What in a migration would hold a table of a running service for long: the rules of docs/upgrades.md."""

import re

# What the service writes to all the time, or what grows with events.
BUSY = (
    r"(?:ONLY )?(?:public\.)?(?:journal|streams|charges|adjustments|customers|invoices|invoice_lines|totals_\w+)\b"
)
_ALTER = rf"ALTER TABLE {BUSY}[^;]*"
_HOLDS = {
    rf"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY)[^;]*? ON {BUSY}": "create the index CONCURRENTLY",
    rf"{_ALTER}\bADD (?:CONSTRAINT \S+ )?(?:CHECK|FOREIGN|UNIQUE|PRIMARY)\b(?![^;]*NOT VALID)": (
        "add the constraint NOT VALID"
    ),
    rf"{_ALTER}\bALTER COLUMN \S+ (?:SET DATA )?TYPE": "add a column instead of changing its type",
    rf"{_ALTER}\bSET NOT NULL": "validate a CHECK constraint instead",
    rf"UPDATE {BUSY}": "fill it by a worker, in batches",
    rf"LOCK TABLE {BUSY}": "do without the lock",
}


def long_locks(statements: str) -> list[str]:
    """What to do instead, for each statement that holds a busy table for long."""
    plain = re.sub(r"--[^\n]*", "", statements)
    return [remedy for held, remedy in _HOLDS.items() if re.search(held, plain, re.IGNORECASE | re.DOTALL)]
