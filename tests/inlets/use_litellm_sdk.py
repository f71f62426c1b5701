"""What a user of LiteLLM's SDK writes; runs in LiteLLM's environment. Arguments: the upstream's URL."""

import asyncio
import contextlib
import gc
import sys

import litellm

from metering.inlets.litellm import MeteringLogger

MESSAGES = [{"role": "user", "content": "How did the harbour master keep his books?"}]
TO = {"api_base": f"{sys.argv[1]}/v1", "api_key": "sk-x", "messages": MESSAGES}

logger = MeteringLogger.from_environment()
litellm.callbacks = [logger]


async def main() -> None:
    stream = await litellm.acompletion(model="openai/gpt-4o:good", user="watched", stream=True, **TO)
    assert [chunk async for chunk in logger.watch(stream)]

    stream = await litellm.acompletion(model="openai/gpt-4o:slow", user="left", stream=True, **TO)
    async with contextlib.aclosing(logger.watch(stream)) as chunks:
        seen = 0
        async for chunk in chunks:
            seen += bool(chunk.choices[0].delta.content)
            if seen == 3:
                break

    stream = await litellm.acompletion(model="openai/gpt-4o:good", user="unwatched", stream=True, **TO)
    assert [chunk async for chunk in stream]

    stream = await litellm.acompletion(model="openai/gpt-4o:slow", user="dropped", stream=True, **TO)
    async for _ in stream:
        break
    del stream

    await litellm.acompletion(model="openai/gpt-4o:json", user="whole", **TO)
    with contextlib.suppress(litellm.RateLimitError):
        await litellm.acompletion(model="openai/gpt-4o:refused-429", user="refused", stream=True, **TO)
    await asyncio.sleep(1)


asyncio.run(main())
gc.collect()
litellm.completion(model="openai/gpt-4o:json", user="sync", **TO)
assert list(litellm.completion(model="openai/gpt-4o:good", user="sync-stream", stream=True, **TO))
with contextlib.suppress(litellm.RateLimitError):
    litellm.completion(model="openai/gpt-4o:refused-429", user="sync-refused", **TO)
