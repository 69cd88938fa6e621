"""Dialects: one file each, frame <-> message."""
