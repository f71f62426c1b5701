"""How often a failed call to Stripe is sent again, and what is waited between: for commands, while people wait.

Workers need none: a push that fails is a row, which is due again later.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from metering.stripe.client.errors import StripeThrottledError, StripeUncertainError

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """At most `tries`, with waits in seconds that double from `first_wait`, or as long as Stripe asks for.

    `on_wait` is called with what failed and the seconds before the next try.
    """

    tries: int
    first_wait: float = 0.5
    longest_wait: float = 8.0
    on_wait: Callable[[str, float], None] = lambda *_: None
    sleep: Callable[[float], None] = time.sleep

    def run(self, call: Callable[[], ResultT]) -> ResultT:
        """The result of a call, which is made again when it may succeed then.

        Raises:
            StripeError: it cannot succeed, or did not however often it was made.
        """
        for failed in range(self.tries):
            try:
                return call()
            except (StripeUncertainError, StripeThrottledError) as error:
                error.to_this_call = error.replayed and failed > 0
                if error.replayed or failed + 1 == self.tries:  # the same key gets the same answer
                    raise
                wait = max(error.retry_after or 0.0, min(self.first_wait * 2**failed, self.longest_wait))
                self.on_wait(str(error), wait)
                self.sleep(wait)
        raise AssertionError("the last try returns or raises")


IMPATIENT = Patience(tries=1)
