"""The one place that builds what tests need: events, books, months, and an API with a history.

`events` has the typed events, `posted` the same as JSON. `books` has a service to book with, `months` one with a
Stripe, `seeded` an API with two months of history. The names that most tests use are here.
"""

from tests.builders.books import CLOSE_TERMS, Books
from tests.builders.events import NOW, T0, delivered, end, start
from tests.builders.months import ENVIRONMENT, NOVEMBER, Months

__all__ = ["CLOSE_TERMS", "ENVIRONMENT", "NOVEMBER", "NOW", "T0", "Books", "Months", "delivered", "end", "start"]
