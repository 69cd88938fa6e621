"""The core of the hub: connections, routing, subscriptions, sessions. Imports neither doors nor executors."""
