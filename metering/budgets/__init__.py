"""Budgets: limits on what customers, keys, tags and the whole deployment may spend, checked before each stream.

A hold sets money aside for one open stream. The transaction that books the stream's charge closes its hold, so
there is no commit that could be lost. Prepaid money is in `credits/`. Start with `budget.py` and `admission.py`,
then `admit_holds.py` (before the stream) and `post_to_budgets.py` (when its charge is booked).
"""
