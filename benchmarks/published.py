"""The tables of README.md and docs/operating/performance.md, from the runs kept in `docs/measured`.

    python -m benchmarks.published

Every run that is there is shown: a figure that was measured several times stands as its lowest and its highest value.
Runs that later ones have replaced are in `docs/measured/earlier`.
"""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.__main__ import LONG, PARTS

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "docs" / "measured"
# Of the long parts the README tells what is wanted of them, docs/operating/performance.md tells everything.
PAGES = {ROOT / "README.md": set(LONG) | {"streams"}, ROOT / "docs" / "operating" / "performance.md": set()}
# They have a table of their own there, with medians.
_APART = {"attacks"}
_PLACE = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- end of figures -->)", re.DOTALL)


def runs() -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(MEASURED.glob("*.json"))]


def page(file: Path) -> str:
    """The page as it is to be."""
    text, found = _PLACE.subn(lambda _: table(runs(), PAGES[file]), file.read_text())
    if found != 1:
        raise ValueError(f"{file.name} has {found} places for figures instead of one")
    return text


def table(reports: list[dict[str, Any]], shortened: set[str]) -> str:
    """Markdown; of the parts in `shortened` only the figures of which something is wanted."""
    rows = ["", "| figure | measured | target | baseline in the same run |", "| --- | --- | --- | --- |"]
    for part in [part for part in PARTS if part not in _APART]:
        figures: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for report in reports:
            for figure in report["parts"].get(part, {}).get("figures", ()):
                figures[figure["name"]].append(figure)
        for name, of_runs in figures.items():
            if of_runs[0]["wanted"] or part not in shortened:
                rows.append(f"| {name} | {_span(of_runs)} | {of_runs[0]['wanted']} | {_beside(of_runs)} |")
    return "\n".join([*rows, "", _origin(reports), "", ""])


def _span(figures: list[dict[str, Any]]) -> str:
    told = list(dict.fromkeys(_number(value) for value in sorted(figure["value"] for figure in figures)))
    unit = figures[0]["unit"]
    return (
        f"{' to '.join([told[0], told[-1]] if len(told) > 1 else told)}{'' if unit[:1] == '/' else ' '}{unit}".strip()
    )


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _beside(figures: list[dict[str, Any]]) -> str:
    return "; ".join(dict.fromkeys(figure["beside"] for figure in figures if figure["beside"]))


def _origin(reports: list[dict[str, Any]]) -> str:
    made = [(run["at"], run["commit"]) for report in reports for run in report["parts"].values()]
    commits = ", ".join(sorted({f"`{commit}`" for _, commit in made}))
    measured: dict[str, list[str]] = defaultdict(list)
    for report in reports:
        measured[_machine(report["machine"])] += report["parts"]
    usual = max(measured, key=lambda machine: len(measured[machine]))
    others = [f"{' and '.join(parts)} on {machine}" for machine, parts in measured.items() if machine != usual]
    return f"{'; '.join([usual, *others, f'from {min(made)[0][:16]} to {max(made)[0][:16]} UTC'])}; commit {commits}."


def _machine(machine: dict[str, Any]) -> str:
    return f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, Python {machine['python']}"


def main() -> None:
    for file in PAGES:
        file.write_text(page(file))


if __name__ == "__main__":
    main()
