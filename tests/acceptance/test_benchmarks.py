"""Every part of the benchmark suite, in small: it starts what it needs, checks what it timed, and tells figures."""

import json
import subprocess
import sys

import pytest

from benchmarks.__main__ import PARTS
from benchmarks.published import PAGES, page

# `test_soak` runs that one. First those which share no installation; each of the others takes that of the one before
# where it is alike.
LAST = ("campaign", "campaigns", "sends", "pressure")
SMALL = ["memory", "webhooks", *sorted(PARTS.keys() - {"memory", "webhooks", "soak", *LAST}), *LAST]
# What is held or taken may have stayed as it was before so little; of commits the server tells seconds later.
MAY_BE_NOTHING = {"MB more", "KB", "bytes", "% of a core", "transactions"}


@pytest.mark.timeout(900)
def test_all_parts_run_and_tell_their_figures(tmp_path):
    report = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", *SMALL, "--smoke", "--json", str(report)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = json.loads(report.read_text())
    assert told["machine"]["cores"]
    assert set(told["parts"]) == set(SMALL)
    for part, kept in told["parts"].items():
        assert kept["figures"]
        measured = [figure for figure in kept["figures"] if figure["unit"] not in MAY_BE_NOTHING]
        assert [figure for figure in measured if figure["value"] <= 0] == []
        assert kept["commit"]
        if part != "webhooks":  # it needs no installation
            assert (kept["settings"]["fsync"], kept["settings"]["appendonly"]) == ("on", "yes")


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.name)
def test_published_tables_are_those_of_the_runs_that_are_kept(file):
    assert page(file) == file.read_text()
