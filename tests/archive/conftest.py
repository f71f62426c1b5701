"""Books with two closed months."""

from pathlib import Path

import pytest

from tests.builders import Books
from tests.builders.archives import Archives, file_two_months


@pytest.fixture
def archives(books: Books, tmp_path: Path) -> Archives:
    """What can be archived, and what has to stay."""
    file_two_months(books)
    return Archives(books, tmp_path)
