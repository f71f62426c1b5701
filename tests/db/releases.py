"""Two releases side by side: the code of a commit, and the present code with one more migration."""

import shutil
import subprocess
from pathlib import Path

from alembic.script import ScriptDirectory

import migrations

ROOT = Path(__file__).parents[2]
PACKAGES = ("metering", "migrations", "workers")


def oldest_code() -> str:
    """What the newest migration says, which an addition keeps."""
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    newest = scripts.get_revision(migrations.HEAD)
    assert newest is not None
    found: str = newest.module.OLDEST_CODE
    return found


NEXT_HEAD = "9001_next_release"
# A column and an index of a table that everything writes to, by the rules of docs/upgrades.md.
NEXT_MIGRATION = f'''
"""What the next release adds."""

from alembic import op

revision = "{NEXT_HEAD}"
down_revision = "{migrations.HEAD}"
branch_labels = None
depends_on = None
OLDEST_CODE = "{oldest_code()}"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS streams_by_next_release")
        op.execute("CREATE INDEX CONCURRENTLY streams_by_next_release ON streams (last_event_at, customer_id)")
        op.execute("SET lock_timeout = '1s'")
    op.execute("ALTER TABLE streams ADD COLUMN next_release integer NOT NULL DEFAULT 0")
'''


def code_of(commit: str, folder: Path) -> Path:
    """The packages of a commit, unpacked in the folder."""
    folder.mkdir()
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", commit, *PACKAGES], stdout=subprocess.PIPE, check=True
    )
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def next_release(folder: Path) -> Path:
    """The present packages, and one more migration."""
    for package in PACKAGES:
        # With its bytecode, which starts are quicker with; but not files that another process is just writing.
        ignored = shutil.ignore_patterns("*.pyc.*")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    (folder / f"migrations/versions/{NEXT_HEAD}.py").write_text(NEXT_MIGRATION.lstrip())
    names_head = folder / "migrations/__init__.py"
    names_head.write_text(names_head.read_text().replace(migrations.HEAD, NEXT_HEAD))
    return folder
