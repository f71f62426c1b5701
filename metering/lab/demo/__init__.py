"""The demo runs the whole product against a local upstream and a local Stripe, and checks every figure."""
