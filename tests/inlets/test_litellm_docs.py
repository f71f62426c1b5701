"""The lines of docs/gateways.md, as they stand there: the configuration runs, and the names are the settings'."""

import re
from pathlib import Path

import pytest
import yaml

from metering.answers.litellm_names import PAYERS, TAGGED
from metering.inlets.litellm_settings import LiteLLMSettings
from tests.gateway.asking import MESSAGES
from tests.gateway.hostile.behaviours import (
    DONE,
    Behaviour,
    Expected,
    counted,
    finish,
    openai_usage,
    usage_chunk,
    words,
)
from tests.inlets.litellm_proxy import ROOT, litellm_world

pytestmark = pytest.mark.long

_PAGE = (ROOT / "docs" / "gateways.md").read_text()


def test_the_configuration_of_the_page_meters_a_request(litellm_python: Path, tmp_path: Path) -> None:
    found = re.search(r"<<'EOF'\n(.*?)EOF\n", _PAGE, re.DOTALL)
    assert found is not None
    config = yaml.safe_load(found[1])
    good = Behaviour("", [*words(), finish(), usage_chunk(openai_usage()), DONE], Expected(usage=None))
    with litellm_world(litellm_python, [good], tmp_path, config=config, OPENAI_API_KEY="sk-x") as world:
        with world.client() as client:
            list(client.chat.completions.create(model="gpt-4o", messages=MESSAGES, user="acme", stream=True))
        [stream] = world.streams_of("acme")
    assert (stream.began["provider"], stream.began["model"]) == ("openai", "gpt-4o")
    assert (stream.ended["usage"], stream.ended["usage_source"]) == (counted(), "provider")


def test_the_page_has_every_setting_and_name() -> None:
    names = set(re.findall(r"`METERING_LITELLM_([A-Z_]+)`", _PAGE))
    assert names == {"INGEST_KEY", "URL", "SPOOL", "SOURCE", "CUSTOMER", "DEFAULT_CUSTOMER", "TAGS"}
    assert [name for name in {*PAYERS, *TAGGED} if f"{name}" not in _PAGE] == []
    default = LiteLLMSettings.from_environment({"METERING_INGEST_KEY": "mk_x"})
    assert f"`{','.join(default.payers)}`" in _PAGE
    assert f"`{','.join(default.tags)}`" in _PAGE
