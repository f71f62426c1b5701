"""What all tests of the inlets share."""

from pathlib import Path

import pytest

from tests.inlets import litellm_environment
from tests.tools import need


@pytest.fixture(scope="session")
def litellm_python() -> Path:
    """The Python of LiteLLM's environment; tests that need it are left out where it was not made."""
    need("litellm proxy")
    return litellm_environment.litellm_python()
