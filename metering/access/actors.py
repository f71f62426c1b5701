"""Who acts: the author of a change, and from where, as the audit log records it."""

from dataclasses import dataclass
from secrets import token_hex
from typing import TypeAlias

_MAX_REQUEST_ID = 128


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


def request_id_of(given: str | None) -> str:
    """The id that a client gave its request, or a new one if it is none that can be logged.

    >>> request_id_of("trace-7")
    'trace-7'
    """
    if given and given.isascii() and given.isprintable() and len(given) <= _MAX_REQUEST_ID:
        return given
    return f"req_{token_hex(8)}"


def actor_of(author: Author) -> Actor:
    """An author as an actor.

    >>> actor_of("the schedule").door
    'service'
    """
    return author if isinstance(author, Actor) else Actor(name=author, door="service")
