"""A database that goes away while it is prepared is an expected failure, in one line."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from metering.core.errors import MeteringError
from metering.lab.chaos.links import HOST, Trouble, open_links
from metering.server.up import prepare
from tests.database import Database
from tests.waiting import eventually

pytestmark = pytest.mark.long


@pytest.mark.parametrize("round_trips", [5, 15, 25])
def test_a_database_that_goes_away_is_an_expected_failure(database: Database, round_trips: int) -> None:
    url = make_url(database.url)
    socket = Path(str(url.query["host"])) / ".s.PGSQL.5432"
    with open_links({"database": socket}) as links, ThreadPoolExecutor() as pool:
        through = url.set(host=HOST, port=links.port("database"), query={})
        settings = database.settings(database_url=SecretStr(through.render_as_string(hide_password=False)))
        links.make_trouble("database", Trouble.SLOW)
        prepared = pool.submit(prepare, settings)
        # Slow enough that it is far from its end when the link is cut.
        assert eventually(lambda: links.carried("database") >= 2 * round_trips)
        links.make_trouble("database", Trouble.CUT)
        with pytest.raises(MeteringError, match="PostgreSQL"):
            prepared.result(timeout=60)
