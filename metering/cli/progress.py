"""Progress on stderr, on a terminal only."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SECONDS_PER_UPDATE = 0.1


def progress(*columns: ProgressColumn) -> Progress:
    """Progress on a terminal, with the description of each task before these columns; silent elsewhere."""
    return Progress(
        TextColumn("{task.description}"),
        *columns,
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int], None]]:
    """A counter on a terminal; call it with how many are done."""
    with steps() as update:
        update(what, 0)
        yield lambda done: update(what, done)


@contextmanager
def steps() -> Iterator[Callable[[str, int], None]]:
    """Counters on a terminal; call it with the name of a step, and how many are done. Steps follow each other."""
    with progress(TextColumn("{task.completed:,}"), TimeElapsedColumn()) as bar:
        tasks: dict[str, TaskID] = {}

        def update(what: str, done: int) -> None:
            if what not in tasks:
                for task in tasks.values():
                    bar.stop_task(task)
                tasks[what] = bar.add_task(what, total=None)
            bar.update(tasks[what], completed=done)

        yield update


@contextmanager
def phases() -> Iterator[Callable[[str, int, int], None]]:
    """Bars on a terminal; call it with the name of a phase, how many are done, and the total."""
    rate = "{task.completed:,} of {task.total:,}, {task.fields[rate]:,.0f} a second"
    with progress(BarColumn(), TextColumn(rate), TimeRemainingColumn()) as bar:
        tasks: dict[str, TaskID] = {}
        begun: dict[str, float] = {}
        updated_at = 0.0

        def update(what: str, done: int, total: int) -> None:
            # Callers may update as often as they like: the bar takes 10 us and is drawn ten times a second.
            nonlocal updated_at
            if what in tasks and done < total and monotonic() - updated_at < SECONDS_PER_UPDATE:
                return
            updated_at = monotonic()
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total, rate=0)
                begun[what] = updated_at
            rate = done / max(updated_at - begun[what], SECONDS_PER_UPDATE)
            bar.update(tasks[what], completed=done, total=total, rate=rate)

        yield update
