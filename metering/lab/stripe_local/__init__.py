"""A local Stripe for tests and trials: a stateful stand-in over HTTP. No money moves.

The stock `stripe` package works with it, given `base_addresses={"api": url}`. It refuses the parameters that
Stripe's own request description refuses. Every answer has the header `Stripe-Local: 1`. See `app.py`, and
`control.py` for how to make it fail.
"""
