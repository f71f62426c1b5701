"""Migrations from 0017 on hold no busy table for long; older ones are released."""

from pathlib import Path

import pytest

import migrations
from tests.db.migration_rules import long_locks
from tests.db.releases import NEXT_MIGRATION

VERSIONS = sorted((Path(migrations.__file__).parent / "versions").glob("*.py"))
NEWER = [path for path in VERSIONS if path.name >= "0017"]


@pytest.mark.parametrize("path", NEWER, ids=lambda path: path.stem)
def test_a_migration_holds_no_busy_table_for_long(path: Path) -> None:
    assert long_locks(path.read_text()) == []


@pytest.mark.parametrize(
    ("statement", "remedy"),
    [
        ("CREATE INDEX charges_by_x ON charges (x)", "CONCURRENTLY"),
        ("CREATE UNIQUE INDEX x ON public.streams (x)", "CONCURRENTLY"),
        ("ALTER TABLE streams ADD CONSTRAINT x CHECK (x > 0)", "NOT VALID"),
        ("ALTER TABLE charges ADD FOREIGN KEY (x) REFERENCES y", "NOT VALID"),
        ("ALTER TABLE charges ALTER COLUMN x TYPE bigint", "type"),
        ("ALTER TABLE charges ALTER COLUMN x SET NOT NULL", "CHECK"),
        ("UPDATE charges SET x = 1", "batches"),
        ("LOCK TABLE streams", "lock"),
    ],
)
def test_what_would_hold_a_table_is_found(statement: str, remedy: str) -> None:
    [said] = long_locks(statement)
    assert remedy in said


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX CONCURRENTLY charges_by_x ON charges (x)",
        "CREATE INDEX x ON a_new_table (x)",
        "ALTER TABLE streams ADD CONSTRAINT x CHECK (x > 0) NOT VALID",
        "ALTER TABLE streams ADD COLUMN x integer NOT NULL DEFAULT 0",
        "GRANT UPDATE ON charges TO someone; -- UPDATE charges SET x = 1",
        NEXT_MIGRATION,
    ],
)
def test_what_does_not_hold_one_is_fine(statement: str) -> None:
    assert long_locks(statement) == []
