"""`make chaos`: one run, its table, and a page with its time line. `--seed` repeats one."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from tests.chaos.hosts_run import GAP, HostsRun
from tests.chaos.judging import judge
from tests.chaos.report import page, show
from tests.chaos.run import Options, Run, newest_seed, short, tell


def main() -> bool:
    parser = argparse.ArgumentParser(prog="make chaos ARGS=", description=__doc__)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--blows", type=int, default=12, help="46 are once each, 20 of those of --hosts")
    parser.add_argument("--users", type=int, default=2)
    parser.add_argument("--phones", type=int, default=5, help="of each user")
    parser.add_argument("--only", default="", help="faults with this in their name")
    parser.add_argument("--hosts", action="store_true", help="six machines, as network namespaces; needs root")
    parser.add_argument("--short", action="store_true", help="the run that the tests make of a seed")
    parser.add_argument("--html", type=Path, default=Path("chaos.html"), help="where the page goes")
    wanted = parser.parse_args()
    seed = newest_seed() if wanted.seed is None else wanted.seed
    print(f"seed {seed}")
    options = Options(seed, wanted.messages, wanted.blows, wanted.users, wanted.phones, only=wanted.only)
    if wanted.hosts:
        options = replace(options, gap=GAP)
    run = (HostsRun if wanted.hosts else Run)(short(seed) if wanted.short else options, tell)
    with run.running():
        run.execute()
        verdict = judge(run)
    show(verdict)
    wanted.html.write_text(page(verdict))
    print(f"time line: {wanted.html}")
    print(verdict.summary)
    if not verdict.ok:
        print("\n".join(run.tail), file=sys.stderr)
    return verdict.ok


if __name__ == "__main__":
    sys.exit(0 if main() else 3)
