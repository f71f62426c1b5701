"""The declared mapping of OpenMeter's types."""

import pytest

from metering.translations.openmeter_types import OpenMeterTypesError, declared_types, read_types


def test_own_types_are_added_to_those_that_come_with_the_service() -> None:
    types = declared_types(
        """
        ignored = ["heartbeat"]
        [providers]
        "Llama-" = "groq"
        "gpt-4o-azure" = "azure"
        [types.tokens.kinds]
        in = "input_tokens"
        """
    )
    assert set(types.types) == {"prompt", "tokens", "kong.llm_request"}
    assert types.types["tokens"].kinds == {"in": "input_tokens"}
    assert types.ignored == ("kong.api_request", "heartbeat")
    assert types.provider_of("LLAMA-3.3-70b") == "groq"
    assert (types.provider_of("gpt-4o"), types.provider_of("gpt-4o-azure-1")) == ("openai", "azure")
    assert types.provider_of("unheard-of") is None


def test_a_type_that_is_declared_is_no_longer_ignored() -> None:
    types = declared_types('[types."kong.api_request".kinds]\nrequest = "input_text_messages"')
    assert types.ignored == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[types", "at the end of a table"),
        ("[types.a]", "types.a: expected either kinds or counters"),
        ('[types.a.kinds]\nx = "tokens"', "types.a: x: expected a counter such as input_tokens, got 'tokens'"),
        ('[types.a.counters]\nx = "audio_seconds"', "types.a: x: expected a counter"),
        ('[types.a]\nmodle = ["m"]', "modle"),
    ],
)
def test_a_mistake_in_the_file_is_named(text: str, said: str) -> None:
    with pytest.raises(OpenMeterTypesError, match=said.replace("(", r"\(")):
        read_types(text)
