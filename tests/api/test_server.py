"""The server: a client that drips its request is cut off, and documentation needs no network."""

import re
import socket
import time
from contextlib import closing
from datetime import timedelta
from http.client import HTTPConnection

import pytest

from tests.database import Database
from tests.running_api import Api, run_server

HEAD = b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n"


@pytest.mark.parametrize("sent", [b"", HEAD, HEAD + b"\r\n", HEAD + b"\r\n[" + b" " * 40])
def test_a_request_that_drips_in_is_cut_off_and_others_are_not(database: Database, sent: bytes) -> None:
    with database.service(request_timeout=timedelta(seconds=0.6)) as service, run_server(service) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as slow:
            slow.sendall(sent)
            began = time.monotonic()
            try:
                while time.monotonic() - began < 60:
                    slow.sendall(b"x" if sent else b"")
                    slow.settimeout(0.1)
                    try:
                        if slow.recv(1000) == b"":
                            break
                    except TimeoutError:
                        continue
            except (ConnectionResetError, BrokenPipeError):
                pass
            assert 0.4 < time.monotonic() - began < 30


def test_a_connection_that_is_kept_alive_serves_one_request_after_the_other(database: Database) -> None:
    with database.service(request_timeout=timedelta(seconds=2)) as service, run_server(service) as url:
        host, port = url.removeprefix("http://").split(":")
        with closing(HTTPConnection(host, int(port), timeout=60)) as connection:
            connection.connect()
            kept = connection.sock
            for _ in range(3):
                connection.request("GET", "/livez")
                assert connection.getresponse().read() == b'{"status":"alive"}'
                time.sleep(2.2)
            assert connection.sock is kept


def test_the_documentation_page_asks_no_other_host(shared_api: Api) -> None:
    page = shared_api.client.get("/docs").text
    assert "swagger" in page.lower()
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert links
    for link in links:
        assert not link.startswith(("http", "//")), link
        assert shared_api.client.get(link).status_code == 200
