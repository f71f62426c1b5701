"""The control client: makes a local Stripe fail, forget, tell what it was asked, and be edited behind our back."""

from typing import Any

import httpx2

from metering.lab.stripe_local.faults import Fault


class LocalStripeControl:
    """Talks to the `/_local` paths of a local Stripe."""

    def __init__(self, url: str) -> None:
        self._http = httpx2.Client(base_url=url, timeout=10)

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
        """Have the next requests to `POST /v1/invoices`, say, or to any (`*`), fail.

        `seconds` is how long a slow one takes, `status` what a stored error answers.
        """
        plan = {"endpoint": endpoint, "fault": fault.value, "times": times, "skip": skip}
        self._post("faults", {**plan, "seconds": seconds, "status": status})

    def clear_faults(self) -> None:
        """Have no more requests fail."""
        self._post("clear-faults", {})

    def forget_keys(self) -> None:
        """Forget all idempotency keys, as after a day."""
        self._post("forget-keys", {})

    def advance_clock(self, *, seconds: float) -> None:
        """Move its clock on."""
        self._post("clock", {"seconds": seconds})

    def limit(self, *, in_all: float | None = None, per_endpoint: float | None = None) -> None:
        """Answer 429 to more requests a second than these; without one, to none."""
        self._post("limits", {"in_all": in_all, "per_endpoint": per_endpoint})

    def delay_search(self, *, seconds: float) -> None:
        """Have searches lag by so much."""
        self._post("search-delay", {"seconds": seconds})

    def edit(self, object_id: str, changes: dict[str, Any], *, recompute: bool = False) -> None:
        """Change an object as a bug or a person would; `recompute` sums its invoice up again."""
        self._post("edit", {"id": object_id, "changes": changes, "recompute": recompute})

    def copy_line(self, stripe_line_id: str) -> None:
        """Put a line on its invoice a second time."""
        self._post("copy-line", {"id": stripe_line_id})

    def remove(self, object_id: str) -> None:
        """Have an object be gone, whatever its state."""
        self._post("remove", {"id": object_id})

    def webhooks(self, mode: str) -> None:
        """Deliver events `once`, `twice`, `shuffled` (and twice), or `hold` them until `release`."""
        self._post("webhooks", {"mode": mode})

    def release(self) -> None:
        """Deliver what was held back."""
        self._post("release", {})

    def deliveries(self) -> dict[str, Any]:
        """How many events wait, and what was posted, oldest first: id, type, object, and the status it got."""
        found: dict[str, Any] = self._http.get("/_local/deliveries").raise_for_status().json()
        return found

    def requests(self) -> list[dict[str, Any]]:
        """What was asked, oldest first: method, path, endpoint, key, params, status, replayed, fault."""
        found: list[dict[str, Any]] = self._http.get("/_local/requests").raise_for_status().json()
        return found

    def clear_requests(self) -> None:
        """Forget what was asked."""
        self._post("clear-requests", {})

    def reset(self) -> None:
        """Forget everything, and be as it was started: no faults, its own limits, events delivered once."""
        self._post("reset", {})

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _post(self, what: str, document: dict[str, Any]) -> None:
        self._http.post(f"/_local/{what}", json=document).raise_for_status()
