"""Access to PostgreSQL: engines, transactions, roles, migrations, bulk rows.

It owns no table. The SQL of a subject is in the `store` and `queries` of that subject.
"""
