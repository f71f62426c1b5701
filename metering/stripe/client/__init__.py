"""Access to Stripe: a port, its client, and the parsed answers. Only client.py and webhook.py import stripe."""
