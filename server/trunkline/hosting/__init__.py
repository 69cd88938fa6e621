"""A hub as a process: wiring, listening, admission, executors by the settings, signals."""
