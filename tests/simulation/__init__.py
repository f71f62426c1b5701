"""A simulator: months of a whole deployment in seconds, on a made-up clock, with faults at transactions' edges."""
