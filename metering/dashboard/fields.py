"""Fields of forms: what was typed stays, and an error stands beside its field."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import MAXYEAR, UTC, datetime
from decimal import Decimal

from metering.core.errors import MeteringError
from metering.core.money import EXACT
from metering.dashboard.errors import InvalidFormError

_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,6})?")
# A sign that people write with a number.
_SIGNS = str.maketrans("", "", "$%, ")


class FieldError(InvalidFormError):
    """One field of a form is invalid."""

    def __init__(self, name: str, says: str) -> None:
        super().__init__(f"{name}: {says}")
        self.name, self.says = name, says


@dataclass(frozen=True, slots=True)
class FormState:
    """What was typed into a form, and what is wrong by field; the error of "" is about the form as a whole."""

    values: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)

    def value(self, name: str, default: str = "") -> str:
        """What was typed into a field, or what it has to begin with."""
        return self.values.get(name, default)


def refused(
    error: MeteringError, form: Mapping[str, str], *, fields: Collection[str], names: Mapping[str, str]
) -> FormState:
    """The form again, with the error of a rule beside the field that it names; `names` has those of the form."""
    if isinstance(error, FieldError):
        return FormState(form, {error.name: error.says})
    name, colon, says = str(error).partition(": ")
    name = names.get(name, name)
    return FormState(form, {name: says} if colon and name in fields else {"": str(error)})


def number(form: Mapping[str, str], name: str) -> Decimal | None:
    """A number as people write it, such as `80%` or `$1,000.50`; None for an empty field.

    Raises:
        FieldError: it is none.
    """
    given = form.get(name, "").strip()
    return _number(name, given) if given else None


def numbers(form: Mapping[str, str], name: str, *, most: int) -> list[Decimal]:
    """Numbers with commas, semicolons or spaces between them.

    Raises:
        FieldError: there is none, one is not a number, or a comma may be part of one.
    """
    typed = form.get(name, "").strip()
    if re.search(r"\d,\d{3}(?!\d)", typed):
        raise FieldError(name, "write a space after a comma between two numbers, and none inside a number")
    given = [each for each in re.split(r"[,;\s]+", typed) if each]
    if not 1 <= len(given) <= most:
        raise FieldError(name, f"expected 1 to {most} numbers, such as 50, 80, 100")
    return [_number(name, each) for each in given]


def cents(dollars: Decimal | None) -> Decimal | None:
    """Dollars in cents."""
    return None if dollars is None else EXACT.scaleb(dollars, 2)


def whole_number(form: Mapping[str, str], name: str, *, least: int, most: int) -> int | None:
    """A whole number; None for an empty field.

    Raises:
        FieldError: it is none, or out of range.
    """
    given = form.get(name, "").strip()
    if not given:
        return None
    if not given.isascii() or not given.isdecimal() or len(given) > 9 or not least <= int(given) <= most:
        raise FieldError(name, f"expected a whole number from {least} to {most}, got {given[:20]!r}")
    return int(given)


def text(form: Mapping[str, str], name: str, *, longest: int) -> str:
    """A text without the spaces around it.

    Raises:
        FieldError: it is too long.
    """
    given = form.get(name, "").strip()
    if len(given) > longest:
        raise FieldError(name, f"at most {longest} characters")
    return given


def required_text(form: Mapping[str, str], name: str, *, longest: int) -> str:
    """A text without the spaces around it.

    Raises:
        FieldError: it is empty or too long.
    """
    given = form.get(name, "").strip()
    if not given or len(given) > longest:
        raise FieldError(name, f"required, at most {longest} characters")
    return given


def day(form: Mapping[str, str], name: str) -> datetime | None:
    """The beginning of a day in UTC; None for an empty field.

    Raises:
        FieldError: it is none, or in the last year that a time can have.
    """
    given = form.get(name, "").strip()
    if not given:
        return None
    try:
        begins = datetime.strptime(given, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise FieldError(name, f"expected a date such as 2027-01-31, got {given[:20]!r}") from error
    if begins.year == MAXYEAR:
        raise FieldError(name, f"expected a date before the year {MAXYEAR}")
    return begins


def _number(name: str, given: str) -> Decimal:
    plain = given.translate(_SIGNS)
    if not _NUMBER.fullmatch(plain):
        raise FieldError(name, f"expected a number with up to 6 decimal places, got {given[:40]!r}")
    return Decimal(plain)
