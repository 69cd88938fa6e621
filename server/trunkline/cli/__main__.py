"""``python -m trunkline.cli``: the command line without the ``trunkline`` script on the PATH."""

from trunkline.cli.main import main

main()
