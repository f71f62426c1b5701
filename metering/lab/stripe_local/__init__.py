"""A local stand-in for Stripe: stateful, over HTTP, for tests and for trying the product. No money moves.

The stock `stripe` package drives it unchanged, by `base_addresses={"api": url}`. It refuses what Stripe's own
request description refuses. Every answer bears `Stripe-Local: 1`. How it fails on demand, see `control.py`.
"""
