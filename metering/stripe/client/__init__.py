"""Stripe in our words: a port, its client, what it answers as records. Only client and webhook import stripe."""
