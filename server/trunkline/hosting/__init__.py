"""A hub as a process: its parts built from the settings, listening sockets, start and stop, signals."""
