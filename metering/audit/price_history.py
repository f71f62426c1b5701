"""The price book as it was known at a moment: what was added later cannot have priced a booking of then."""

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache

from sqlalchemy import Connection

from metering.prices.price_book import PriceBook
from metering.prices.rate_book import RateBook
from metering.prices.store import load_price_book, price_book_changes

# A booking takes its moment before it looks at prices, and a clock may differ from the one that dated the price.
_MARGIN = timedelta(minutes=1)
_BOOKS_KEPT = 16


class PriceHistory:
    """Every state that the price book has been in."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._changes = price_book_changes(connection)
        self._after = lru_cache(maxsize=_BOOKS_KEPT)(self._load)

    def now(self) -> PriceBook:
        """The book with all that was ever added."""
        return self._after(len(self._changes))

    def around(self, at: datetime) -> Iterator[PriceBook]:
        """The book at that moment first, then those which a booking dated so may have seen as well."""
        at_it = bisect_right(self._changes, at)
        yield self._after(at_it)
        earliest, latest = bisect_right(self._changes, at - _MARGIN), bisect_right(self._changes, at + _MARGIN)
        for number in range(earliest, latest + 1):
            if number != at_it:
                yield self._after(number)

    def _load(self, number: int) -> PriceBook:
        if number == 0:
            return PriceBook(rates=RateBook(()))
        return load_price_book(self._connection, known_at=self._changes[number - 1])
