"""On the path of a hub under test: Python imports it at start. Processes that read documents get bad parsers."""

from __future__ import annotations

import sys
from pathlib import Path

if any("documents.parsing" in argument for argument in sys.orig_argv):
    sys.path.append(str(Path(__file__).parents[4]))
    from tests.methods.packs import hostile_parsers

    hostile_parsers.install()
