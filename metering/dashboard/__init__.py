"""The dashboard: pages for finance people and operators at `/dashboard`. It asks and shows; it decides nothing."""
