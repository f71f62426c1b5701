"""Doors for other senders: each reads a path's requests by a translation, and answers as its senders expect."""
