"""Who acts: the author of a change, and from where, as the audit log records it."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """A person or program behind a change: `key k1` or `user ada`, and through which door it came.

    `address` is where from: the client's address, or the name of the machine. As text it is the name alone.
    """

    name: str
    door: str
    address: str | None = None
    request_id: str | None = None

    def __str__(self) -> str:
        return self.name


# What runs by itself, such as the schedule, has a name only.
Author: TypeAlias = Actor | str


def actor_of(author: Author) -> Actor:
    """An author as an actor.

    >>> actor_of("the schedule").door
    'service'
    """
    return author if isinstance(author, Actor) else Actor(name=author, door="service")
