"""Who may call the service: API keys and their roles, dashboard sessions, SQL readers, idempotency keys.

How a request presents its key is the subject of `api/` and `dashboard/`. Start with `store/keys.py`.
"""
