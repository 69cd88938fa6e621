"""What commands show: tables, progress, the live table of ``trunkline top``."""
