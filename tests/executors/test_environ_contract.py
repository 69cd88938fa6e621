"""What Trunkline relies on in ``os._Environ``: that ``os.environ`` can become a subclass of it, and stays as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys

PROGRAM = """
import json, logging, os, subprocess, sys
from trunkline.executors.environment import watch

said = []
class Listen(logging.Handler):
    def emit(self, record):
        said.append(record.args[0])
logging.getLogger("trunkline.executor").addHandler(Listen())

found = {}
watch(["WITHHELD", "WITHHELD_TOO", "ASKED_FOR", "UNASKED"])
found["subscript"] = False
try:
    os.environ["WITHHELD"]
except KeyError as error:
    found["subscript"] = error.args == ("WITHHELD",)
found["again"] = [os.environ.get("WITHHELD", 5), os.getenv("WITHHELD")]
found["get"] = os.environ.get("WITHHELD_TOO")
found["getenv"] = os.getenv("NEVER_THERE", "default")
found["there"] = [os.environ["HERE"], os.getenv("HERE"), "HERE" in os.environ, "ASKED_FOR" in os.environ]

os.environ["NEW"] = "new"
del os.environ["GOES"]
os.environ |= {"MORE": "more"}
child = "import json, os; print(json.dumps({n: os.environ.get(n) for n in ('HERE', 'NEW', 'MORE', 'GOES')}))"
found["child"] = json.loads(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout)
copy = os.environ.copy()
found["copy"] = [type(copy).__name__, copy["NEW"], sorted(copy) == sorted(os.environ)]
os.environ["UNASKED"] = "by a method of its own"
found["own"] = os.environ["UNASKED"]
print(json.dumps({"found": found, "said": said}))
"""


def test_what_is_looked_for_and_withheld_is_told_once_and_all_else_is_as_ever() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"HERE": "here", "GOES": "goes", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["said"] == ["WITHHELD", "WITHHELD_TOO", "ASKED_FOR"]
    assert answer["found"] == {
        "subscript": True,
        "again": [5, None],
        "get": None,
        "getenv": "default",
        "there": ["here", "here", True, False],
        "child": {"HERE": "here", "NEW": "new", "MORE": "more", "GOES": None},
        "copy": ["dict", "new", True],
        "own": "by a method of its own",
    }
