"""All planted faults."""

from tests.planted.archive import ARCHIVE
from tests.planted.credits import CREDITS
from tests.planted.doors import DOORS
from tests.planted.holds import HOLDS
from tests.planted.inlets import INLETS
from tests.planted.money import MONEY
from tests.planted.months import MONTHS
from tests.planted.otlp import OTLP
from tests.planted.streams import STREAMS

FAULTS = (*STREAMS, *MONTHS, *DOORS, *INLETS, *OTLP, *CREDITS, *HOLDS, *MONEY, *ARCHIVE)
