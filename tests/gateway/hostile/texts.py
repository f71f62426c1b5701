"""Behaviours that differ in where the text stands, and in the JSON around it; none reports usage."""

from typing import Any

from metering.answers.tokens import counter_for
from tests.gateway.hostile.behaviours import (
    DONE,
    TEXT,
    TOKENS,
    WORDS,
    Behaviour,
    Expected,
    Step,
    Write,
    at_once,
    counted,
    document,
    event,
    finish,
    words,
)

_count = counter_for(model="gpt-4o").count


def _said(
    name: str,
    deltas: list[dict[str, Any]],
    *,
    text: str | None = None,
    output: int = TOKENS,
    finished: str = "stop",
    **usage: Any,
) -> Behaviour:
    """Each delta in a chunk of its own; the SDK shows `text` as content."""
    steps: list[Step] = [Write(event(document(delta)), 1) for delta in deltas]
    expected = Expected(usage=counted(output, **usage), text=text)
    return Behaviour(f"text-{name}", [*steps, finish(finished), DONE], expected)


def _each(**of_word: Any) -> list[dict[str, Any]]:
    """One delta a word, with the word in place of every `WORD`."""

    def filled(value: Any, word: str) -> Any:
        if isinstance(value, dict):
            return {name: filled(item, word) for name, item in value.items()}
        if isinstance(value, list):
            return [filled(item, word) for item in value]
        return word if value == "WORD" else value

    return [filled(of_word, word) for word in WORDS]


_REASONED = {"reasoning_output_tokens": TOKENS}
_ARGUMENTS = '{"quay": "the old harbour"}'
_CALL = _count("count_crates") + _count(_ARGUMENTS)


def _call(**more: Any) -> list[dict[str, Any]]:
    first = {"id": "call_1", "type": "function", "function": {"name": "count_crates", "arguments": ""}, **more}
    rest = [{"function": {"arguments": part}, **more} for part in (_ARGUMENTS[:9], _ARGUMENTS[9:])]
    return [{"tool_calls": [each]} for each in (first, *rest)]


SHAPES = [
    _said("content", _each(content="WORD"), text=TEXT),
    _said("parts", _each(content=[{"type": "text", "text": "WORD"}])),
    _said(
        "thinking-parts",
        _each(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "WORD"}]}]),
        **_REASONED,
    ),
    _said("reasoning-content", _each(reasoning_content="WORD"), text="", **_REASONED),
    _said("reasoning", _each(reasoning="WORD"), text="", **_REASONED),
    _said(
        "reasoning-under-three-names",
        _each(
            reasoning="WORD",
            reasoning_content="WORD",
            reasoning_details=[{"type": "reasoning.text", "text": "WORD"}],
        ),
        text="",
        **_REASONED,
    ),
    _said(
        "reasoning-details",
        _each(reasoning_details=[{"type": "reasoning.summary", "summary": "WORD"}]),
        text="",
        **_REASONED,
    ),
    _said(
        "reasoning-encrypted",
        [
            *_each(content="WORD"),
            {"reasoning_details": [{"type": "reasoning.encrypted", "data": "gAAAAABo" * 40}]},
        ],
        text=TEXT,
    ),
    _said("thinking", _each(thinking="WORD"), text="", **_REASONED),
    _said(
        "thinking-blocks",
        _each(thinking_blocks=[{"type": "thinking", "thinking": "WORD", "signature": "x9"}]),
        text="",
        **_REASONED,
    ),
    _said("refusal", _each(refusal="WORD"), text=""),
    _said("content-and-null", _each(content="WORD", refusal=None, tool_calls=None, audio=None), text=TEXT),
    _said("tool-call", _call(index=0), text="", output=_CALL, finished="tool_calls"),
    _said("tool-call-null-index", _call(index=None), text="", output=_CALL, finished="tool_calls"),
    _said("tool-call-no-index", _call(), text="", output=_CALL, finished="tool_calls"),
    _said(
        "tool-call-object",
        [
            {
                "tool_calls": [
                    {
                        "index": 0,
                        "id": "c",
                        "type": "function",
                        "function": {"name": "count_crates", "arguments": {"quay": "old"}},
                    }
                ]
            }
        ],
        text="",
        finished="tool_calls",
        output=_count("count_crates") + _count('{"quay":"old"}'),
    ),
    _said(
        "custom-tool-call",
        [
            {"tool_calls": [{"index": 0, "id": "c", "type": "custom", "custom": {"name": "run", "input": word}}]}
            if at == 0
            else {"tool_calls": [{"index": 0, "custom": {"input": word}}]}
            for at, word in enumerate(WORDS)
        ],
        text="",
        output=TOKENS + 1,
        finished="tool_calls",
    ),
    _said(
        "function-call",
        [{"function_call": {"name": "run", "arguments": "{}"}}],
        text="",
        output=2,
        finished="function_call",
    ),
]

_AUDIO = [{"audio": {"id": "a", "transcript": word, "data": "UklGRg=="}} for word in WORDS]


def _raw(name: str, *chunks: bytes, text: str | None = TEXT, expected: Expected | None = None) -> Behaviour:
    steps: list[Step] = [Write(chunk, 1) for chunk in chunks]
    return Behaviour(f"text-{name}", [*steps, finish(), DONE], expected or Expected(usage=counted(), text=text))


def _with(pattern: bytes) -> list[bytes]:
    """One chunk a word, of raw JSON."""
    return [pattern.replace(b"WORD", word.encode()) for word in WORDS]


_CUT = b'{"choices":[{"index":0,"del'
_CHOICE = b'"choices":[{"index":0,"delta":{"content":"WORD"},"finish_reason":null'
_SURROGATES = [
    event({"choices": [{"index": 0, "delta": {"content": "WORD"}}]}).replace(b"WORD", half)
    for half in (b"Look: \\ud83c", b"\\udf0a")
]

JSON = [
    _raw("nan-logprobs", *_with(b"data: {" + _CHOICE + b',"logprobs":{"content":[{"logprob":NaN}]}}]}\n\n')),
    _raw("infinity", *_with(b'data: {"score":-Infinity,' + _CHOICE + b"}]}\n\n")),
    _raw("huge-number", *_with(b'data: {"n":1e999,"m":' + b"9" * 400 + b"," + _CHOICE + b"}]}\n\n")),
    _raw(
        "surrogate-pair-cut",
        *_SURROGATES,
        text=None,
        expected=Expected(usage=counted(_count("Look: 🌊")), text=None),
    ),
    _raw("lone-surrogate", *_with(b'data: {"note":"\\ud83c",' + _CHOICE + b"}]}\n\n")),
    _raw("spaces", *_with(b"data:   {  " + _CHOICE + b"} ] }  \n\n")),
    _raw("index-null", *_with(b'data: {"choices":[{"index":null,"delta":{"content":"WORD"}}]}\n\n')),
    _raw("index-missing", *_with(b'data: {"choices":[{"delta":{"content":"WORD"}}]}\n\n')),
    _raw("unknown-fields", *_with(b'data: {"v":{"a":[1,{}]},' + _CHOICE + b',"zz":"noise"}]}\n\n')),
    _raw(
        "repeated-at-the-end",
        *_with(b"data: {" + _CHOICE + b"}]}\n\n"),
        event(
            {
                "choices": [
                    {
                        "index": 0,
                        "delta": {},
                        "message": {"role": "assistant", "content": TEXT},
                        "finish_reason": None,
                    }
                ]
            }
        ),
    ),
    Behaviour(
        "text-two-choices",
        [
            *(
                Write(event(document({"content": word}, choice={"index": index})), 1)
                for word in WORDS
                for index in (0, 1)
            ),
            finish(),
            finish(choice={"index": 1}),
            DONE,
        ],
        Expected(usage=counted(2 * TOKENS), text=None),
        request={"n": 2},
    ),
    Behaviour(
        "text-audio",
        [*(Write(event(document(delta)), 1) for delta in _AUDIO), finish(), DONE],
        Expected(usage=counted(), source="estimate", text=""),
        model="gpt-audio",
    ),
    Behaviour(
        "text-unknown-model",
        [*words(), finish(), DONE],
        Expected(usage=counted(), source="estimate"),
        model="claude",
    ),
    # The SDK fails at these; what was delivered is billed all the same.
    Behaviour(
        "text-unreadable",
        [*words(10), Write(b"data: " + _CUT + b"\n\n"), finish(), DONE],
        Expected(usage=counted(10 + -(-len(_CUT) // 4)), source="estimate", text=None),
    ),
    Behaviour(
        "text-no-object",
        [*words(), Write(b"data: null\n\n"), Write(b"data: {}\n\n"), finish(), DONE],
        Expected(usage=counted(), text=None),
    ),
    Behaviour(
        "text-array",
        [Write(b"data: [" + event(document({"content": TEXT}))[6:-2] + b"]\n\n", TOKENS), finish(), DONE],
        Expected(usage=counted(), text=None),
    ),
]

# The stock clients fail on the first of these chunks.
_UNREAD_BY_SDKS = {"text-nan-logprobs", "text-infinity", "text-unreadable", "text-no-object", "text-array"}
BEHAVIOURS = [*SHAPES, *(at_once(each) if each.name in _UNREAD_BY_SDKS else each for each in JSON)]
