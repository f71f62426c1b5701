"""A push: writing an invoice to Stripe. Where it stands, and what is written."""

from enum import StrEnum


class PushState(StrEnum):
    """How far Stripe has an invoice. Those after `UNKNOWN` want nothing more of us by themselves."""

    PENDING = "pending"
    LOOKUP = "lookup"
    CREATING = "creating"
    LINING = "lining"
    VERIFYING = "verifying"
    FINALIZING = "finalizing"
    UNKNOWN = "unknown"
    FINAL = "final"
    SETTLED = "settled"
    VOID = "void"
    UNCOLLECTIBLE = "uncollectible"
    DEFERRED = "deferred"
    UNLINKED = "unlinked"
    STUCK = "stuck"
