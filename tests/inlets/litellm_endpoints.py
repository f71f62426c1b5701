"""What upstreams answer on other endpoints: Anthropic's and OpenAI's formats, embeddings, completions."""

import json
from typing import Any

from tests.gateway.hostile.behaviours import TEXT, TOKENS, WORDS, Behaviour, Expected, Pause, Step, Write

ANY = Expected(usage=None)
ANTHROPIC_USAGE = {"input_tokens": 5, "cache_read_input_tokens": 11, "cache_creation_input_tokens": 0}
RESPONSES_USAGE = {
    "input_tokens": 16,
    "input_tokens_details": {"cached_tokens": 8},
    "output_tokens": TOKENS,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 16 + TOKENS,
}


def _event(document: dict[str, Any], tokens: int = 0) -> Write:
    data = json.dumps(document, separators=(",", ":")).encode()
    return Write(b"event: %s\ndata: %s\n\n" % (document["type"].encode(), data), tokens)


def _message(**more: Any) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [], **more}


def message_events(pause: float = 0.0) -> list[Step]:
    begun = _message(usage={**ANTHROPIC_USAGE, "output_tokens": 1}, stop_reason=None, stop_sequence=None)
    deltas = [
        _event(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}, tokens=1
        )
        for word in WORDS
    ]
    return [
        _event({"type": "message_start", "message": begun}),
        _event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        *(step for delta in deltas for step in (delta, Pause(pause))),
        _event({"type": "content_block_stop", "index": 0}),
        _event(
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": TOKENS},
            }
        ),
        _event({"type": "message_stop"}),
    ]


def _response(status: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "hostile",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        **more,
    }


_OUTPUT = [
    {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": TEXT, "annotations": []}],
    }
]


def response_events(pause: float = 0.0) -> list[Step]:
    place = {"item_id": "m", "output_index": 0, "content_index": 0}
    deltas = [
        _event({"type": "response.output_text.delta", **place, "delta": word, "sequence_number": at}, 1)
        for at, word in enumerate(WORDS)
    ]
    done = _response("completed", output=_OUTPUT, usage=RESPONSES_USAGE)
    return [
        _event({"type": "response.created", "response": _response("in_progress"), "sequence_number": 0}),
        *(step for delta in deltas for step in (delta, Pause(pause))),
        _event({"type": "response.completed", "response": done, "sequence_number": 99}),
    ]


def _whole(name: str, document: dict[str, Any]) -> Behaviour:
    return Behaviour(
        name,
        [Write(json.dumps(document).encode(), TOKENS)],
        ANY,
        content_type="application/json",
        framing="length",
    )


_EMBEDDED = {
    "object": "list",
    "model": "hostile",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
}
_COMPLETED = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1,
    "model": "hostile",
    "choices": [{"index": 0, "text": TEXT, "finish_reason": "stop", "logprobs": None}],
    "usage": {"prompt_tokens": 16, "completion_tokens": TOKENS, "total_tokens": 16 + TOKENS},
}
ENDPOINTS = [
    Behaviour("message-events", message_events(), ANY),
    Behaviour("slow-message-events", message_events(0.05), ANY),
    _whole(
        "message",
        _message(
            content=[{"type": "text", "text": TEXT}],
            stop_reason="end_turn",
            stop_sequence=None,
            usage={**ANTHROPIC_USAGE, "output_tokens": TOKENS},
        ),
    ),
    Behaviour("response-events", response_events(), ANY),
    Behaviour("slow-response-events", response_events(0.05), ANY),
    _whole("response", _response("completed", output=_OUTPUT, usage=RESPONSES_USAGE)),
    _whole("embedding", {**_EMBEDDED, "usage": {"prompt_tokens": 16, "total_tokens": 16}}),
    _whole("embedding-without-usage", _EMBEDDED),
    _whole("completion", _COMPLETED),
    Behaviour(
        "completion-events",
        [
            *(
                Write(
                    b"data: "
                    + json.dumps({**_COMPLETED, "usage": None, "choices": [{"index": 0, "text": word}]}).encode()
                    + b"\n\n",
                    1,
                )
                for word in WORDS
            ),
            Write(
                b"data: "
                + json.dumps(
                    {**_COMPLETED, "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
                ).encode()
                + b"\n\n"
            ),
            Write(b"data: [DONE]\n\n"),
        ],
        ANY,
    ),
]
