"""Several processes behind one port, for the API and the gateway.

The process that was started listens, starts the others, and hands each new connection to the one that has the
fewest. Start with `processes.py`; `dealer.py` hands out connections, and `server.py` is how uvicorn takes them.
"""
