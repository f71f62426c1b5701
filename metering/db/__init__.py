"""PostgreSQL as a tool: engines and transactions, roles and migrations, bulk rows in and out.

It owns no table. The SQL of a subject stands in that subject's `store` and `queries`.
"""
