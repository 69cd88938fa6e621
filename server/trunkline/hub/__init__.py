"""Connections, routing and outboxes. Knows the protocol, not the doors and not the executors."""
