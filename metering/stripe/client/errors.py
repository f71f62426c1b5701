"""Errors of calls to Stripe, by their meaning for the caller."""

from metering.core.errors import MeteringError


class StripeError(MeteringError):
    """A call to Stripe failed.

    `request_id` is Stripe's, for its support. `replayed` means that Stripe repeated its earlier answer to the same
    idempotency key; `to_this_call`, that we had got that answer a moment before, and asked again. `retry_after` is
    how many seconds Stripe wants us to wait, if it says so.
    """

    retry_after: float | None = None
    to_this_call: bool = False

    def __init__(self, message: str, *, request_id: str | None = None, replayed: bool = False) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.replayed = replayed


class StripeUncertainError(StripeError):
    """The call may or may not have taken effect: a timeout, a lost answer, a 5xx, or the same call in progress."""


class StripeThrottledError(StripeError):
    """Too many calls; the call had no effect. When `replayed`, an earlier call was answered with this."""


class StripeRefusedError(StripeError):
    """Stripe understood the call and refused it. `code` and `param` are Stripe's."""

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
    """The object does not exist at Stripe."""


class StripeUnauthorizedError(StripeError):
    """The key is invalid or lacks a permission. No call can succeed until the key is replaced."""
