"""``trunkline`` with other constants, which are no settings: how long a peer may take to send the rest of its request.

The first argument is JSON: the new values by module and name. The others are the command line. With TEST_ADOPTS_ORPHANS
in its environment it gets orphans as children, as process 1 does.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys


def patch(values: dict[str, float]) -> None:
    """Replace constants, named ``module:NAME``, in every module that read them."""
    for path, value in values.items():
        module, _, name = path.partition(":")
        found = importlib.import_module(module)
        assert isinstance(getattr(found, name), int | float), f"{path} is no number"
        setattr(found, name, value)


if __name__ == "__main__":
    patch(json.loads(sys.argv.pop(1)))
    if "TEST_ADOPTS_ORPHANS" in os.environ:
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
    from trunkline.cli.main import main

    main()
