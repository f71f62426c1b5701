"""Service tiers: which of the tiers that a gateway reports priced a stream."""


def service_tier_of(*, usage: str | None, answer: str | None, request: str | None) -> str | None:
    """The tier that priced a stream: that of the provider's usage, or else of its answer, or else of the request.

    The usage says how the tokens were processed, the answer how the request was; the request is only a wish. None
    if none of them names a tier. It is as it was written; rating ignores its case and spaces around it.

    A tier for which a card has no rates has the standard price, whatever its name: `standard`, `default`, `auto`,
    `on_demand`, `standard_only`.

    >>> service_tier_of(usage=None, answer="default", request="flex")
    'default'
    """
    for tier in (usage, answer, request):
        if tier and tier.strip():
            return tier
    return None
