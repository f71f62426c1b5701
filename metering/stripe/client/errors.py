"""How a call to Stripe can fail, by what it means for whoever called."""

from metering.core.errors import MeteringError


class StripeError(MeteringError):
    """A call to Stripe failed. `request_id` is Stripe's, for its support; `replayed` that an earlier answer to the
    same idempotency key was given once more."""

    def __init__(self, message: str, *, request_id: str | None = None, replayed: bool = False) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.replayed = replayed


class StripeUncertainError(StripeError):
    """Whether the call took effect is not known: a timeout, a lost answer, a 500, or the same call in flight."""


class StripeThrottledError(StripeError):
    """Too many calls; nothing was done. Or, when replayed, an earlier answer that said so."""


class StripeRefusedError(StripeError):
    """Stripe understood the call and will not do it. `code` and `param` are Stripe's."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        replayed: bool = False,
    ) -> None:
        super().__init__(message, request_id=request_id, replayed=replayed)
        self.code = code
        self.param = param


class StripeMissingError(StripeRefusedError):
    """There is no such object at Stripe."""


class StripeUnauthorizedError(StripeError):
    """The key is not accepted, or may not do this: nothing will work until somebody mends it."""
