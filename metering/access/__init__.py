"""Who may call the service: API keys and their scopes, dashboard sessions, SQL readers, idempotency keys.

And who did what: the audit log. How a request presents its key is the subject of `api/` and `dashboard/`. Start
with `scopes.py`, then `manage_access.py`.
"""
