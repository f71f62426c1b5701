"""Ways to meter gateways that are not ours: what such a gateway tells becomes the three usage events.

An inlet runs inside the other gateway, on the emitter. It knows the emitter, upstreams' answers, the events, and
that gateway's own package; it does not know the service. Start reading at `litellm.py`.
"""
