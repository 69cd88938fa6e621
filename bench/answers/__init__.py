"""How good extracted answers are: see README.md and :mod:`bench.answers.__main__`."""
