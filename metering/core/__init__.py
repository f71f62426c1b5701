"""What all other rooms use: exact money, billing periods, ids, dated rows, the base error, the clock.

It knows no streams, customers or databases. Start with `money.py`.
"""
