"""What an upstream's answer says: its texts, its tokens and its usage, whatever shape the vendor gives them.

Everything here is pure. The gateway and the emitter read answers with it. Start with `texts.py` and `usage.py`.
"""
