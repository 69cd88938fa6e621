"""How many instructions two commits need for the same dialogue: ``make check-instructions``."""
