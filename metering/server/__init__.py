"""Running the service: settings, logs, the composition root, embedded services, `metering up`, heartbeats.

It connects the rooms below and has no business rules. Start with `bootstrap.py`.
"""
