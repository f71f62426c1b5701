"""Running the service: settings, logs, the composition root, embedded services, `metering up`, heartbeats.

It wires the rooms below together and knows no business rule. Start with `bootstrap.py`.
"""
