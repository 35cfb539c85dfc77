"""Every part of the benchmark suite, in small: it starts what it needs, checks what it timed, and tells figures."""

import json
import subprocess
import sys

import pytest

from benchmarks.__main__ import PARTS
from benchmarks.published import PAGES, page


@pytest.mark.timeout(240)
@pytest.mark.parametrize("part", [part for part in PARTS if part != "soak"])  # `test_soak` runs that one
def test_a_part_runs_and_tells_its_figures(part, tmp_path):
    report = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", part, "--smoke", "--json", str(report)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = json.loads(report.read_text())
    kept = told["parts"][part]
    assert kept["figures"]
    # Nothing that was measured is nothing; memory may have stayed as it was.
    assert all(figure["value"] > 0 or figure["unit"] == "MB more" for figure in kept["figures"])
    assert kept["commit"]
    assert told["machine"]["cores"]
    if part != "webhooks":  # it needs no installation
        assert (kept["settings"]["fsync"], kept["settings"]["appendonly"]) == ("on", "yes")


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_published_tables_are_those_of_the_runs_that_are_kept(file):
    assert page(file) == file.read_text()
