"""What every other room stands on: exact money, billing periods, ids, dated rows, the base error, the clock.

Nothing here knows a stream, a customer or a database. Start with `money.py`.
"""
