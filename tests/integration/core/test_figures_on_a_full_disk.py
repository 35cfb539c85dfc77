"""The figures that processes share are files that are written to in memory, which the disk has to have room for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import small_disk

ROOM = 2**20
# What a process counts on the disk that is full from the start, or from some moment on.
COUNT = """
import os, sys
from pathlib import Path
from app.core import metrics

def fill():
    with open(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]) / "fill", "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass

if sys.argv[1] == "full":
    fill()
metrics.observe("GET", "/before", 200, 0.1)
fill()
for number in range(1000):
    metrics.observe("GET", f"/route/{number}", 200, 0.1)
for figures in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("*.db"):
    if not figures.stat().st_size:
        raise SystemExit(f"{figures} cannot be read")
print(metrics.exposition().decode())
"""


@pytest.mark.parametrize("when", ["full", "fills"])
def test_a_process_goes_on_counting_and_working(tmp_path: Path, when: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path.cwd()), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    with small_disk.mounted(tmp_path, ROOM):
        done = subprocess.run(
            [sys.executable, "-c", COUNT, when], env=env, capture_output=True, text=True, check=False, timeout=60
        )
    assert done.returncode == 0, done.stderr
    assert 'route="/before"' in done.stdout or when == "full"
    assert "no room on the disk for figures" in done.stdout + done.stderr
