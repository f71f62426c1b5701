"""A running sink and emitters that are closed at the end of each test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metering.emitter import Emitter
from tests.emitter.sink import IngestSink, RunningServer, StartEmitter


@pytest.fixture
def sink() -> Iterator[IngestSink]:
    sink = IngestSink()
    with RunningServer(sink.app) as server:
        sink.url = server.url
        yield sink


@pytest.fixture
def start_emitter(tmp_path: Path) -> Iterator[StartEmitter]:
    started: list[Emitter] = []

    def start(url: str, **options: Any) -> Emitter:
        options = {"key": "mk_test_secret", "source": "/gateways/test", "spool": tmp_path / "spool", **options}
        emitter = Emitter(url=url, **options)
        started.append(emitter)
        return emitter

    yield start
    for emitter in started:
        emitter.close(timeout=0)
