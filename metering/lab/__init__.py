"""Tools to try and measure the product: `metering bench`, `metering demo`, a local stand-in for Stripe.

Nothing in the product imports them but the commands that start them.
"""
