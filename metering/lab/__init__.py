"""Tools to try and to measure the product: `metering bench`, `metering demo` and a local Stripe.

Only the commands that start these tools import them. Start with `demo/play.py`, `bench/stage.py`,
`stripe_local/app.py`, `chaos/run.py` or `money/proof.py`.
"""
