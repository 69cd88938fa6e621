"""The output of commands: tables, progress, the live table of ``trunkline top``."""
