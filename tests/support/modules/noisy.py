"""Methods of a library that talks: at import, in Python, in C, in a child process."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

from trunkline import method

print("noise at import")


@method("noisy.print")
def say() -> str:
    print("noise of print")
    sys.__stdout__.write("noise of sys.__stdout__\n")  # type: ignore[union-attr]
    os.write(1, b"noise of descriptor 1\n")
    libc = ctypes.CDLL(None)
    libc.puts(b"noise of C")
    libc.fflush(None)
    subprocess.run(["echo", "noise of a child"], check=True)
    return "said"
