"""Other senders' formats: what they post becomes the three usage events, record by record.

A translation is a pure function from a body to events as the contract has them (docs/events.md). It does not judge
them: they are decoded, admitted and stored like those of a gateway. Start reading at `translated.py`
and `completions.py`.
"""
