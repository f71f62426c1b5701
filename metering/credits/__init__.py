"""Credits: prepaid and promotional grants, what they pay of each booking, balances and deferred revenue.

A grant's entries are appended and never changed; balances are sums of them. Drawing happens in the transaction
that books. Start with `grant.py` and `drawing.py`; `booking.py` is what the ledger hands over, `revenue.py` the
part of the price that is no longer deferred.
"""
