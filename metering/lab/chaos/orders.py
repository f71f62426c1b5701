"""What the processes that post have in common: an order, a file that ends it, and a result, written once."""

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import msgspec


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a process has to do, and its folder."""

    folder: str

    @property
    def finish(self) -> Path:
        """Once this file exists, the process begins nothing more, and ends what it has begun."""
        return Path(self.folder) / "finish"

    @property
    def result(self) -> Path:
        """The result, written when all is done."""
        return Path(self.folder) / "result.json"


OrderType = TypeVar("OrderType", bound=Order)


def carry_out(kind: type[OrderType], work: Callable[[OrderType], msgspec.Struct]) -> None:
    """Do the order whose file is the process's argument, write the result, and wait to be stopped.

    A process that is started again after it has written the result only waits.
    """
    order = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=kind)
    if not order.result.exists():
        result = work(order)
        partial = order.result.with_suffix(".partial")
        partial.write_bytes(msgspec.json.encode(result))
        partial.rename(order.result)
    while True:
        time.sleep(timedelta(hours=1).total_seconds())
