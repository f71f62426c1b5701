"""The client of the control paths: makes a local Stripe fail, changes its objects, and reads its requests."""

from typing import Any

import httpx2

from metering.lab.stripe_local.faults import Fault


class LocalStripeControl:
    """A client of the `/_local` paths of one local Stripe."""

    def __init__(self, url: str) -> None:
        # A connection for each request: the server may be closing an idle one just now.
        limits = httpx2.Limits(max_keepalive_connections=0)
        self._http = httpx2.Client(base_url=url, timeout=60, limits=limits)

    def fail_next(
        self,
        endpoint: str,
        fault: Fault,
        *,
        times: int = 1,
        skip: int = 0,
        seconds: float = 0.0,
        status: int = 500,
    ) -> None:
        """Make the next requests to an endpoint fail, such as `POST /v1/invoices`, or `*` for any.

        `skip` requests pass first, then `times` fail. A slow request takes `seconds`, a stored error has `status`.
        """
        plan = {"endpoint": endpoint, "fault": fault.value, "times": times, "skip": skip}
        self._post("faults", {**plan, "seconds": seconds, "status": status})

    def clear_faults(self) -> None:
        """Remove all planned faults."""
        self._post("clear-faults", {})

    def forget_keys(self) -> None:
        """Forget all idempotency keys, as Stripe does after a day."""
        self._post("forget-keys", {})

    def advance_clock(self, *, seconds: float) -> None:
        """Move the server's clock forward."""
        self._post("clock", {"seconds": seconds})

    def limit(self, *, in_all: float | None = None, per_endpoint: float | None = None) -> None:
        """Answer 429 above these requests per second; None removes a limit."""
        self._post("limits", {"in_all": in_all, "per_endpoint": per_endpoint})

    def delay_search(self, *, seconds: float) -> None:
        """Set the lag of searches."""
        self._post("search-delay", {"seconds": seconds})

    def edit(self, object_id: str, changes: dict[str, Any], *, recompute: bool = False) -> None:
        """Change an object as a bug or a person would; `recompute` updates the sums of its invoice."""
        self._post("edit", {"id": object_id, "changes": changes, "recompute": recompute})

    def copy_line(self, stripe_line_id: str) -> None:
        """Add a copy of a line to its invoice."""
        self._post("copy-line", {"id": stripe_line_id})

    def remove(self, object_id: str) -> None:
        """Remove an object in any state."""
        self._post("remove", {"id": object_id})

    def webhooks(self, mode: str) -> None:
        """Deliver events `once`, `twice`, `shuffled` (and twice), or `hold` them until `release`."""
        self._post("webhooks", {"mode": mode})

    def release(self) -> None:
        """Deliver the held events, each twice and shuffled."""
        self._post("release", {})

    def deliveries(self) -> dict[str, Any]:
        """The number of `waiting` events, and the posts `made`, oldest first: id, type, object, HTTP status."""
        found: dict[str, Any] = self._http.get("/_local/deliveries").raise_for_status().json()
        return found

    def requests(self) -> list[dict[str, Any]]:
        """The requests, oldest first: endpoint, path, idempotency_key, params, status, replayed, fault."""
        found: list[dict[str, Any]] = self._http.get("/_local/requests").raise_for_status().json()
        return found

    def clear_requests(self) -> None:
        """Forget the recorded requests."""
        self._post("clear-requests", {})

    def reset(self) -> None:
        """Remove all objects, faults and records, and restore the settings of the start."""
        self._post("reset", {})

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _post(self, what: str, document: dict[str, Any]) -> None:
        self._http.post(f"/_local/{what}", json=document).raise_for_status()
