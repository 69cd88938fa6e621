"""State on one machine: SQLite files that one process has open, and what they need of the file system."""
