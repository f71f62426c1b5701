"""Time zones by their IANA names: which names are valid, and the valid name that is closest to another text."""

import difflib
from functools import cache, lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

UTC_ZONE = ZoneInfo("UTC")
# Where a zone's name is unusable, these are the furthest zones that it may mean: 12 hours behind UTC to 14 ahead.
FURTHEST_ZONES = (ZoneInfo("Etc/GMT+12"), ZoneInfo("Etc/GMT-14"))
# Comparing a long text with every name takes long.
_MAX_COMPARED = 64


@cache
def zone_names() -> frozenset[str]:
    """The names in the IANA database.

    Python finds more names on some machines: `localtime` and `posixrules`, which mean the machine's own zone, and
    copies under `posix/` and `right/`. `Factory` is IANA's name for a zone that was never set.
    """
    return frozenset(files("tzdata").joinpath("zones").read_text().split()) - {"Factory"}


@lru_cache(maxsize=1_000)
def find_zone(name: str) -> ZoneInfo | None:
    """The zone with this IANA name; None when there is none.

    >>> find_zone("Asia/Kolkata"), find_zone("localtime")
    (zoneinfo.ZoneInfo(key='Asia/Kolkata'), None)
    """
    if name not in zone_names():
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def shown_zone(name: str) -> ZoneInfo:
    """The zone in which a customer's days and months are shown: its own, or UTC while its name is unusable.

    Nothing is billed by the latter: months of such a customer cannot be closed.
    """
    return find_zone(name) or UTC_ZONE


def nearest_zone(name: str) -> str | None:
    """The valid name that is closest to a text: apart from case, by its last part, or by its letters.

    >>> nearest_zone("europe/berlin"), nearest_zone("posix/Asia/Tokyo"), nearest_zone("Kathmandu")
    ('Europe/Berlin', 'Asia/Tokyo', 'Asia/Kathmandu')
    """
    wanted = name.strip()[:_MAX_COMPARED].replace(" ", "_").casefold()
    wanted = wanted.removeprefix("posix/").removeprefix("right/")
    by_name = {each.casefold(): each for each in sorted(zone_names())}
    by_last_part = {each.rpartition("/")[2]: by_name[each] for each in by_name}
    found = by_name.get(wanted) or by_last_part.get(wanted.rpartition("/")[2])
    if found is None:
        close = difflib.get_close_matches(wanted, by_name, n=1)
        found = by_name[close[0]] if close else None
    return found
