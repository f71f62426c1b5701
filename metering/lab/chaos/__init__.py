"""Chaos: the whole product under traffic and faults, compared with an independent oracle at the end.

`schedule.py` has the faults of a seed, `traffic.py` the streams, `oracle.py` their cost; all three are pure.
`harm.py` does the faults, `gateway.py` is the process that posts, `run.py` puts them together.
"""
