"""Chaos: the whole product under traffic and faults, compared with independent oracles at the end.

`schedule.py` has the faults of a seed, `traffic.py` the streams of gateways, `fates.py` those of clients,
`terms.py` their budgets and grants, and `oracle.py` the cost; all of them are pure. `stage.py` starts the product,
`harm.py` does the faults, `gateway.py` and `clients.py` are the processes that post, `desk.py` sets budgets, and
`run.py` puts them together. `check.py` compares costs and months, `check_money.py` budgets, holds and grants.
"""
