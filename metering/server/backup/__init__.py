"""Backup and restore of the database: a dump of one snapshot, with its roles and a manifest that proves it whole.

It restores the rows, not the server: point-in-time recovery is PostgreSQL's own (docs/backup.md). Start with
`make_backup.py` and `restore.py`.
"""
