"""Behaviours that differ in how the answer ends: cut, failed, refused, or whole where a stream was asked for."""

import json
from typing import Any

from tests.gateway.hostile.behaviours import (
    DONE,
    PROMPT,
    TEXT,
    TOKENS,
    WORDS,
    Behaviour,
    End,
    Expected,
    Step,
    Write,
    by_provider,
    counted,
    document,
    event,
    finish,
    openai_usage,
    usage_chunk,
    words,
)

_USAGE = usage_chunk(openai_usage())
_ERROR = {"error": {"message": "Overloaded, as planned.", "type": "server_error", "code": "overloaded"}}


def _failed(output: int | None, error: str, error_type: str, *, no_error: bool = False, **more: Any) -> Expected:
    usage = None if output is None else counted(output)
    text = "".join(WORDS[:output]) if output is not None else None
    return Expected(
        **{
            "usage": usage,
            "source": None if usage is None else "gateway_count",
            "outcome": "failed",
            "text": text,
            "error": None if no_error else error,
            "error_type": error_type,
            **more,
        }
    )


def _cut(name: str, *last: Step, **changes: Any) -> Behaviour:
    expected = _failed(10, "connection to the upstream broke", "upstream_disconnected")
    return Behaviour(f"cut-{name}", [*words(10), *last], expected).but(**changes)


_HALF = Write(event(document({"content": WORDS[10]}))[:40])
_INCOMPLETE = _failed(10, "ended its answer before it was finished", "upstream_incomplete")

CUTS = [
    _cut("fin", End("fin")),
    _cut(
        "rst",
        End("rst"),
        expected=_failed(10, "connection to the upstream broke", "upstream_disconnected", text=None),
    ),
    _cut("fin-in-an-event", _HALF, End("fin")),
    _cut("fin-in-an-event-length", _HALF, End("fin"), framing="close", headers=(("content-length", "99999"),)),
    _cut("close-delimited-in-an-event", _HALF, End("fin"), framing="close", expected=_INCOMPLETE),
    _cut("close-delimited-in-done", Write(b"data: [DO"), End("fin"), framing="close", expected=_INCOMPLETE),
    _cut("close-delimited-without-finish", End("fin"), framing="close", expected=_INCOMPLETE),
    _cut(
        "whole-event-without-end",
        Write(event(document({"content": WORDS[10]}))[:-2], 1),
        End("fin"),
        framing="close",
        expected=_failed(11, "ended its answer", "upstream_incomplete"),
    ),
    _cut("clean-without-finish", expected=_INCOMPLETE),
    _cut(
        "error-event",
        Write(event(_ERROR)),
        End("fin"),
        expected=_failed(10, "Overloaded, as planned", "overloaded"),
    ),
    _cut("error-event-clean", Write(event(_ERROR)), expected=_failed(10, "Overloaded, as planned", "overloaded")),
    _cut(
        "error-event-done",
        Write(event(_ERROR)),
        DONE,
        expected=_failed(10, "Overloaded, as planned", "overloaded"),
    ),
    _cut(
        "error-number",
        Write(event({"error": {"message": "Overloaded, as planned.", "code": 529}})),
        DONE,
        expected=_failed(10, "Overloaded, as planned", "529"),
    ),
    Behaviour(
        "cut-after-finish",
        [*words(), finish(), End("fin")],
        _failed(TOKENS, "connection to the upstream broke", "upstream_disconnected", text=TEXT),
    ),
    Behaviour("cut-after-finish-and-usage", [*words(), finish(), _USAGE, End("fin")], by_provider()),
    Behaviour("cut-after-finish-with-usage", [*words(), finish(usage=openai_usage()), End("fin")], by_provider()),
    Behaviour("cut-after-done", [*words(), finish(), _USAGE, DONE, End("fin")], by_provider()),
    Behaviour(
        "cut-after-finish-close-delimited",
        [*words(), finish(), End("fin")],
        Expected(usage=counted()),
        framing="close",
    ),
    Behaviour(
        "cut-one-of-two-unfinished",
        [*words(10), *words(10, choice={"index": 1}), finish(), End("fin")],
        _failed(20, "ended its answer", "upstream_incomplete", text=None),
        framing="close",
        request={"n": 2},
    ),
    Behaviour(
        "cut-second-never-began",
        [*words(10), finish()],
        _failed(10, "ended its answer", "upstream_incomplete", text=None),
        request={"n": 2},
    ),
    Behaviour(
        "cut-before-anything",
        [End("fin")],
        _failed(None, "connection to the upstream broke", "upstream_disconnected", text=""),
    ),
    Behaviour("cut-nothing-clean", [], _failed(None, "ended its answer", "upstream_incomplete", text="")),
]


def _whole(content: Any, *, finish_reason: str = "stop", **more: Any) -> dict[str, Any]:
    message = content if isinstance(content, dict) else {"role": "assistant", "content": content}
    choices = [{"index": 0, "message": message, "finish_reason": finish_reason}]
    return {"id": "w", "object": "chat.completion", "created": 1, "model": "hostile", "choices": choices, **more}


def _json(name: str, body: Any, expected: Expected, **changes: Any) -> Behaviour:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    behaviour = Behaviour(
        f"whole-{name}",
        [Write(data, TOKENS)],
        expected,
        content_type="application/json",
        framing="length",
        request={"stream": False},
    )
    return behaviour.but(**changes)


_GOOD = _whole(TEXT, usage=openai_usage())
_LINES = b"".join(json.dumps(document({"content": word})).encode() + b"\n" for word in WORDS)

WHOLES = [
    _json("good", _GOOD, by_provider()),
    _json("to-a-stream", _GOOD, Expected(usage=counted(), source="provider", text=""), request={}),
    _json(
        "infinity",
        json.dumps(_whole(TEXT, usage=openai_usage(), score=float("-inf"))).encode(),
        Expected(usage=counted(), source="provider", text=None),
    ),
    _json("without-usage", _whole(TEXT), Expected(usage=counted())),
    _json("usage-zero", _whole(TEXT, usage=openai_usage(0, 0)), Expected(usage=counted())),
    _json("usage-only-prompt", _whole(TEXT, usage={"prompt_tokens": PROMPT}), Expected(usage=counted())),
    _json("parts", _whole([{"type": "text", "text": TEXT}]), Expected(usage=counted(), text=None)),
    _json(
        "reasoning",
        _whole({"role": "assistant", "content": "", "reasoning": TEXT, "reasoning_content": TEXT}),
        Expected(usage=counted(reasoning_output_tokens=TOKENS), text=""),
    ),
    _json("error-200", _ERROR, _failed(None, "Overloaded, as planned", "overloaded", text="")),
    _json(
        "error-200-to-a-stream", _ERROR, _failed(None, "Overloaded, as planned", "overloaded", text=""), request={}
    ),
    _json(
        "lines-to-a-stream",
        _LINES,
        Expected(usage=counted(), text=None),
        request={},
        content_type="application/x-ndjson",
    ),
    _json(
        "events-to-no-stream",
        b"".join(step.data for step in [*words(), finish(), _USAGE, DONE] if isinstance(step, Write)),
        Expected(usage=counted(), source="provider", text=None),
        content_type="text/event-stream",
    ),
    _json(
        "garbage",
        b"hello there",
        _failed(3, "", "upstream_invalid_json", text=None, no_error=True, source="estimate"),
    ),
    _json("chunked", _GOOD, by_provider(), framing="chunked"),
    _json("close", _GOOD, by_provider(), framing="close"),
    _json(
        "unknown-encoding",
        b"\x0b\x02\x80" * 40,
        _failed(30, "", "upstream_invalid_json", text=None, no_error=True, source="estimate"),
        headers=(("content-encoding", "br"),),
    ),
]


def _refused(status: int, body: Any, error_type: str, error: str = "", **changes: Any) -> Behaviour:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Behaviour(
        f"refused-{status}",
        [Write(data)],
        _failed(None, error, error_type, text=""),
        status=status,
        content_type="application/json",
        framing="length",
    ).but(**changes)


REFUSALS = [
    _refused(400, _ERROR, "overloaded", "Overloaded"),
    _refused(401, _ERROR, "upstream_unauthorized", "gateway's own credentials"),
    _refused(403, _ERROR, "upstream_unauthorized", "gateway's own credentials"),
    _refused(404, _ERROR, "overloaded", "Overloaded"),
    _refused(409, b"", "http_409"),
    _refused(422, {"detail": [{"loc": ["body", "messages"], "msg": "bad"}]}, "http_422"),
    _refused(429, _ERROR, "overloaded", "Overloaded"),
    _refused(500, b"<h1>oops</h1>", "http_500", content_type="text/html"),
    _refused(503, event(_ERROR), "http_503", content_type="text/event-stream"),
    _refused(529, _ERROR, "overloaded", "Overloaded"),
    _refused(302, b"", "upstream_redirect", "redirect"),
    _refused(999, _ERROR, "overloaded", "Overloaded"),
]

BEHAVIOURS = [*CUTS, *WHOLES, *REFUSALS]
