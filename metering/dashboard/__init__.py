"""The dashboard: pages for finance people and operators at `/dashboard`. It shows; rules are elsewhere."""
