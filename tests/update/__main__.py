"""`make update-test`: from an earlier version to this one, under load."""

import argparse
import sys

from tests.support.versions import PREVIOUS
from tests.update.run import Options, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="make update-test", description=__doc__)
    parser.add_argument("version", nargs="?", default=PREVIOUS, help="tag or commit of the earlier version")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load before and after")
    parser.add_argument("--senders", type=int, default=4)
    given = parser.parse_args()
    result = run(Options(given.version, given.seconds, given.senders), print)
    print(result)
    return 0 if result.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
