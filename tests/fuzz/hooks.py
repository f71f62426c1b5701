"""What schemathesis loads: it must not revoke its own key, and each of its requests comes from another address.

From one address, the API answers only a few requests without a key at once, and each further one a second later.
"""

import itertools
import os
from typing import Any

import requests
import schemathesis

OWN_KEY_ID = "FUZZ_KEY_ID"

_numbers = itertools.count(1)


def _from_another_address(_: requests.adapters.HTTPAdapter, request: requests.PreparedRequest, **__: Any) -> None:
    number = next(_numbers)
    request.headers["X-Forwarded-For"] = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


# The place where requests lets an adapter add headers; a header of a test case would make it another case.
if OWN_KEY_ID in os.environ:
    requests.adapters.HTTPAdapter.add_headers = _from_another_address  # type: ignore[assignment]


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:  # noqa: ARG001
    """Change a request before it is sent."""
    if case.path_parameters.get("key_id") == os.environ[OWN_KEY_ID]:
        case.path_parameters["key_id"] = "another"
