"""What the command line's process does so that secrets in it stay in it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource
from mesh_hsm_cli.main import main
main(["--version"])
print(resource.getrlimit(resource.RLIMIT_CORE))
"""


def test_a_crash_leaves_no_core_dump() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "(0, 0)", done.stderr
