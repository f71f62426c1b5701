"""Both ends of a realtime session through LiteLLM, for its own environment, which has a WebSocket library.

    python realtime_peers.py serve PORT
    python realtime_peers.py talk URL KEY PAYER TURNS

Turns are letters: `r` asks for a response, `t` sends text only, `l` leaves in the middle of a response.
"""

import asyncio
import json
import sys

import websockets

# What the upstream says each response used, by its number in the session.
USAGES = [
    {
        "total_tokens": 253,
        "input_tokens": 132,
        "output_tokens": 121,
        "input_token_details": {
            "text_tokens": 119,
            "audio_tokens": 13,
            "cached_tokens": 64,
            "cached_tokens_details": {"text_tokens": 54, "audio_tokens": 10},
        },
        "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
    },
    {"total_tokens": 60, "input_tokens": 40, "output_tokens": 20},
    {"total_tokens": 7, "input_tokens": 5, "output_tokens": 2, "input_token_details": {"audio_tokens": 5}},
]


async def answer(socket):
    """The upstream: a session in OpenAI's format."""
    await socket.send(json.dumps({"type": "session.created", "event_id": "e0", "session": {"id": "s"}}))
    responses = 0
    async for message in socket:
        if json.loads(message).get("type") != "response.create":
            continue
        number, responses = responses % len(USAGES), responses + 1
        name = f"resp_{number}"
        delta = {
            "type": "response.output_text.delta",
            "event_id": f"{name}d",
            "response_id": name,
            "delta": "Ledgers",
        }
        await socket.send(json.dumps(delta))
        done = {
            "id": name,
            "object": "realtime.response",
            "status": "completed",
            "output": [],
            "usage": USAGES[number],
        }
        await socket.send(json.dumps({"type": "response.done", "event_id": f"{name}e", "response": done}))


async def serve(port):
    async with websockets.serve(answer, "127.0.0.1", port):
        print("serving", flush=True)
        await asyncio.Future()


async def talk(url, key, payer, turns):
    headers = {"authorization": f"Bearer {key}", "x-litellm-end-user-id": payer}
    async with websockets.connect(url, additional_headers=headers) as socket:
        assert json.loads(await socket.recv())["type"] == "session.created"
        for turn in turns:
            content = [{"type": "input_text", "text": "Who keeps the ledger?"}]
            item = {"type": "message", "role": "user", "content": content}
            await socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
            if turn == "t":
                continue
            await socket.send(json.dumps({"type": "response.create"}))
            while json.loads(await socket.recv())["type"] != "response.done":
                if turn == "l":
                    return


command, *given = sys.argv[1:]
asyncio.run(serve(int(given[0])) if command == "serve" else talk(*given))
