"""Metrics and logs of the hub."""
