"""A local Stripe for the folder's tests, emptied for each."""

from collections.abc import Iterator

import pytest

from tests.local_stripe import LocalStripe, local_stripe


@pytest.fixture(scope="module")
def running() -> Iterator[LocalStripe]:
    """One for a module."""
    with local_stripe() as running:
        yield running


@pytest.fixture
def there(running: LocalStripe) -> LocalStripe:
    """An empty one."""
    running.control.reset()
    return running
