"""``python -m trunkline.cli``: the command line where no ``trunkline`` is on the path."""

from trunkline.cli.main import main

main()
