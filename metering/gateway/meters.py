"""The meter of one completion: what is known of it before the upstream is asked, with its input counted."""

import asyncio

from metering.answers.inputs import count_input, input_characters
from metering.answers.tokens import counter_for
from metering.emitter.identity import StreamIdentity
from metering.emitter.meter import Emit, StreamMeter
from metering.gateway.endpoints import Body
from metering.gateway.requests import CompletionRequest

# Encoding a larger request in the event loop would delay the other streams.
_COUNT_INLINE_BYTES = 64 << 10


async def make_meter(*, request: CompletionRequest, stream_id: str, emit: Emit) -> StreamMeter:
    """The meter of a request that is about to go upstream."""
    counter, endpoint = counter_for(model=request.model), request.endpoint
    if endpoint.body is Body.FORM:
        # A form has files, whose tokens only the upstream knows.
        counted = None
    elif len(request.content) <= _COUNT_INLINE_BYTES:
        counted = count_input(request=request.document, counter=counter)
    else:
        counted = await asyncio.to_thread(count_input, request=request.document, counter=counter)
    identity = StreamIdentity(
        customer_id=request.key.customer_id,
        stream_id=stream_id,
        provider=request.upstream.provider,
        model=request.model,
        streaming=request.streaming,
        operation=endpoint.operation,
        input_tokens=counted.tokens if counted else None,
        input_exact=counted is None or counted.exact,
        input_characters=input_characters(request.document) if endpoint.speaks else None,
        max_output_tokens=request.max_output_tokens,
        api_key_id=request.key.api_key_id,
        request_hash=request.request_hash,
        service_tier=request.service_tier,
        tags=request.tags,
        choices=request.choices,
    )
    return StreamMeter(identity=identity, counter=counter, emit=emit, output=endpoint.output)
