"""Helpers of several tests, first written for test_light_start."""

import json
import subprocess
import sys

HEAVY = {"torch", "torchvision", "timm", "sklearn", "scipy"}


PROGRAM = """
import json, sys
from labelfix.cli.main import app
try:
    app({args!r}, prog_name="labelfix")
except SystemExit as end:
    assert end.code == 0, end.code
print(json.dumps(sorted(name for name in sys.modules if "." not in name)), file=sys.stderr)
"""


def loaded_by(program: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))
