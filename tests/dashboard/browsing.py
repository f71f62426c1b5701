"""A session with the dashboard, as a browser keeps one, without scripts."""

import re

import httpx2

from metering.access.scopes import Role
from tests.running_api import Api, http_client


class Browser:
    """A session with the dashboard, as a browser keeps one, without scripts."""

    def __init__(self, api: Api, role: Role = Role.ADMIN, customer_id: str | None = None) -> None:
        self.http = http_client(api.url)
        with api.client_with(role, customer_id) as signed:
            self.key = signed.headers["authorization"].removeprefix("Bearer ")

    def sign_in(self, key: str | None = None, **headers: str) -> httpx2.Response:
        """Send the form."""
        return self.http.post("/dashboard/sign-in", data={"key": key or self.key}, headers=headers)

    def token(self) -> str:
        """The session's token, as the forms have it."""
        found = re.search(r'name="token" value="(\w+)"', self.get("").text)
        assert found is not None
        return found[1]

    def get(self, path: str, **query: str) -> httpx2.Response:
        """A page, which is there."""
        answer = self.http.get(f"/dashboard/{path}", params=query or None)
        assert answer.status_code == 200, answer.text
        return answer


def browse(api: Api, role: Role = Role.ADMIN, customer_id: str | None = None) -> Browser:
    """A session that is signed in with a new key."""
    browser = Browser(api, role, customer_id)
    assert browser.sign_in().status_code == 303
    return browser
