"""Trying the product without anyone else's servers: a local upstream, and the demo that drives everything."""
