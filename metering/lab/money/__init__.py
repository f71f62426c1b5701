"""Money proved: an oracle of budgets, holds and grants that follows every transaction of a database.

Triggers write down what each transaction changes (`history.py`). The oracle (`holding.py`, `drawing.py`) follows
the design in docs/budgets.md and docs/credits.md and shares no code with the rooms `budgets` and `credits`.
`proof.py` puts them together. Chaos and the simulator use it.
"""
