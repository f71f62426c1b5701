"""What a deployment sets about OTLP: which spans are taken, and where the customer stands."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from metering.translations.otlp.names import READ
from metering.translations.otlp.records import KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """`customer`, `api_key_id` and `tags` are names of attributes, of the span or of its resource.

    Of several names the first one that has a value counts. `kinds` are kinds of spans; `scopes` are patterns of
    names of instrumentation scopes, and one that begins with `-` takes out what it matches.
    """

    customer: tuple[str, ...] = ("metering.customer_id", "enduser.id", "user.id")
    api_key_id: tuple[str, ...] = ("metering.api_key_id",)
    tags: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("client", "internal")
    scopes: tuple[str, ...] = ("*",)

    @property
    def names(self) -> frozenset[str]:
        """The attributes that have to be read."""
        return READ.union(self.customer, self.api_key_id, self.tags)

    def takes_kind(self, kind: int) -> bool:
        """Whether spans of this kind are billed. One that is unspecified is internal, as the protocol says."""
        return ("internal" if kind == 0 else KINDS.get(kind, "")) in self.kinds

    def takes_scope(self, scope: str) -> bool:
        """Whether spans of this scope are billed.

        >>> rules = Rules(scopes=("*", "-openinference.*"))
        >>> rules.takes_scope("opentelemetry.util.genai"), rules.takes_scope("openinference.openai")
        (True, False)
        """
        taken = [pattern for pattern in self.scopes if not pattern.startswith("-")]
        refused = [pattern[1:] for pattern in self.scopes if pattern.startswith("-")]
        matches = (not taken) or any(fnmatchcase(scope, pattern) for pattern in taken)
        return matches and not any(fnmatchcase(scope, pattern) for pattern in refused)
