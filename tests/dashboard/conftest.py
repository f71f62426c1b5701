"""Sessions with the dashboard of the seeded service, and of an empty one."""

from collections.abc import Iterator

import pytest

from metering.access.scopes import Role
from metering.server.embedded.data_dir import Services
from tests.builders.seeded import Seeded
from tests.dashboard.browsing import Browser, browse
from tests.database import Template, clone
from tests.running_api import signed_in


@pytest.fixture
def admin(seeded: Seeded) -> Iterator[Browser]:
    """Signed in with an admin key."""
    yield from _until_closed(browse(seeded.api))


@pytest.fixture
def reader(seeded: Seeded) -> Iterator[Browser]:
    """Signed in with a read key."""
    yield from _until_closed(browse(seeded.api, Role.READ))


@pytest.fixture
def bound(seeded: Seeded) -> Iterator[Browser]:
    """Signed in with a key that sees one customer only: hooli."""
    yield from _until_closed(browse(seeded.api, Role.READ, "hooli"))


@pytest.fixture(scope="session")
def empty(services: Services, rated_template: Template) -> Iterator[Browser]:
    """Signed in where nothing has happened yet."""
    with clone(services, rated_template) as database, database.service() as service, signed_in(service) as api:
        yield from _until_closed(browse(api))


def _until_closed(browser: Browser) -> Iterator[Browser]:
    yield browser
    browser.http.close()
