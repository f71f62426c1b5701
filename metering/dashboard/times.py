"""Times of day as pages show them: in UTC, in the zone of the viewer's browser, or in each customer's."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from metering.core.time_zones import UTC_ZONE


class ZoneChoice(StrEnum):
    """Whose time zone the times of day are in."""

    UTC = "utc"
    MINE = "mine"
    CUSTOMER = "customer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The zone of times of day. With `of_customers`, each customer's times are in its own zone.

    `about` is the one customer that a page is about. `is_customers` if the viewer is that customer. `problem` says
    why the chosen zone is not used.
    """

    choice: ZoneChoice
    zone: ZoneInfo
    of_customers: Mapping[str, ZoneInfo]
    about: str | None = None
    is_customers: bool = False
    problem: str = ""

    def zone_for(self, customer_id: str | None) -> ZoneInfo:
        """The zone of a time that is about a customer, or about none."""
        return self.of_customers.get(customer_id or self.about or "", self.zone)

    def text(self, at: datetime, customer_id: str | None = None) -> str:
        """A time of day to the second; with its offset where a list mixes zones."""
        local = at.astimezone(self.zone_for(customer_id))
        return f"{local:%Y-%m-%d %H:%M:%S}{f' {_offset(local)}' if self._mixes_zones else ''}"

    def full(self, at: datetime, customer_id: str | None = None) -> str:
        """A time with its zone, and the same in UTC."""
        zone = self.zone_for(customer_id)
        local, utc = at.astimezone(zone), f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"
        if zone.key == "UTC":
            return utc
        return f"{local:%Y-%m-%d %H:%M:%S} {zone.key} (UTC{_offset(local)}), {utc}"

    @property
    def _mixes_zones(self) -> bool:
        return self.choice is ZoneChoice.CUSTOMER and not self.is_customers and self.about is None

    @property
    def label(self) -> str:
        """The choice in a word, for the switch."""
        if self.choice is ZoneChoice.CUSTOMER and not self.is_customers:
            return "Customer’s"
        return self.zone_for(None).key

    @property
    def sentence(self) -> str:
        """What the times of a page are in, for its footer."""
        if self.problem:
            return f"Times are in UTC: {self.problem}."
        zone = self.zone_for(None).key
        match self.choice:
            case ZoneChoice.MINE:
                return f"Times are in {zone}, the time zone of your browser."
            case ZoneChoice.CUSTOMER if self._mixes_zones:
                return "Times are in each customer’s time zone, others in UTC."
            case ZoneChoice.CUSTOMER:
                return f"Times are in {zone}."
        return "Times are in UTC."

    @property
    def choices(self) -> Mapping[str, str]:
        """The values of the switch, with their titles."""
        return {
            ZoneChoice.UTC.value: "UTC",
            ZoneChoice.MINE.value: "My browser’s",
            ZoneChoice.CUSTOMER.value: "The account’s" if self.is_customers else "Each customer’s",
        }


UTC_CLOCK = Clock(choice=ZoneChoice.UTC, zone=UTC_ZONE, of_customers={})


def _offset(local: datetime) -> str:
    """An offset such as `+05:30`."""
    text = f"{local:%z}"
    return f"{text[:3]}:{text[3:5]}"
