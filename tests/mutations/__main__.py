"""`make mutations`: breaks a copy of the product in each of the ways, and says whether the proof has found it.

`ONLY="sweep"` those with the word in their name. `--unbroken` runs the same proofs on a copy that is as it is.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.mutations.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
MAX_SECONDS = 600
FOUND = 3  # what both proofs exit with; a proof that fails itself has found nothing


def prove(mutation: Mutation, *, unbroken: bool) -> tuple[bool, str, float]:
    """Whether the proof found something, what, and after how many seconds."""
    with tempfile.TemporaryDirectory(prefix="smsfleet-mutation-") as folder:
        copy = Path(folder)
        copy.chmod(0o755)
        for name in ("app", "workers", "phones", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        if not unbroken:
            file = copy / mutation.file
            file.write_text(file.read_text().replace(mutation.old, mutation.new))
        words = mutation.words.split() if mutation.proof == "chaos" else [mutation.words]
        began = time.monotonic()
        try:
            ran = subprocess.run(
                [sys.executable, "-m", f"tests.{mutation.proof}", *words],
                cwd=copy,
                env={**os.environ, "PYTHONPATH": str(copy)},
                capture_output=True,
                text=True,
                check=False,
                timeout=MAX_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return False, "it took too long", MAX_SECONDS
        seconds = time.monotonic() - began
        return ran.returncode == FOUND, _said(ran.stdout, ran.stderr), seconds


def _said(output: str, errors: str) -> str:
    """What was found, in a line."""
    lines = output.splitlines()
    found = [line.strip() for line in lines if line.startswith("  ") and "before statement" not in line]
    wrong = [
        " ".join(line.split("│")[1:3]).strip() for line in lines if line.count("│") == 4 and line.endswith("0      │")
    ]
    wrong = [line for line in wrong if not line.rstrip().endswith(" 0")]
    return (found or wrong or errors.strip().splitlines()[-1:] or [""])[0]


def main(word: str, *, unbroken: bool) -> bool:
    """Whether the proof did what it should with each of them."""
    table = Table("broken on purpose", "tried with", "found", "after")
    good = True
    for mutation in MUTATIONS:
        if word not in mutation.name:
            continue
        found, said, seconds = prove(mutation, unbroken=unbroken)
        good &= found is not unbroken
        print(f"{mutation.name}: {said or 'nothing'}", file=sys.stderr, flush=True)
        table.add_row(mutation.name, f"{mutation.proof} {mutation.words}", said if found else "NOT", f"{seconds:.0f} s")
    Console(width=200).print(table)
    return good


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(not main(" ".join(a for a in arguments if a != "--unbroken"), unbroken="--unbroken" in arguments))
