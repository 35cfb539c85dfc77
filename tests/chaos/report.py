"""A run as a table for the terminal, and as a page with a time line; the page needs nothing from elsewhere."""

from html import escape
from itertools import count

from rich.console import Console
from rich.table import Table

from tests.chaos.judging import Verdict

_WIDTH, _HEIGHT, _ROW = 1100, 160, 13
_PAGE = """<!doctype html>
<meta charset="utf-8">
<title>smsfleet: chaos, seed {seed}</title>
<style>
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 1150px; color: #222; }}
table {{ border-collapse: collapse; }}
td, th {{ padding: .15em .8em; text-align: left; border-bottom: 1px solid #ddd; }}
td.n {{ text-align: right; }} .bad {{ background: #fcc; }} svg text {{ font-size: 10px; fill: #444; }}
</style>
<h1>Seed {seed}, {title}</h1>
<p>{summary}</p>
<h2>Time line</h2>
<p>SMS on air in each second (blue), sends accepted (grey line), and what was broken when (red).</p>
{svg}
<h2>Judged from outside</h2>
<table><tr><th>figure</th><th>found</th><th>wanted</th></tr>{lines}</table>
<h2>Blows</h2>
<table><tr><th>at</th><th>what</th><th>lasted</th><th>until a new single send was on air</th>
<th>longest without one since it began</th></tr>{blows}</table>
"""


def show(verdict: Verdict) -> None:
    """Print the tables."""
    console = Console()
    blows = Table("at", "blow", "lasted", "recovered", "longest pause")
    for event, seconds, pause in verdict.recovered:
        recovered = "never" if seconds is None else f"{seconds:.1f} s"
        blows.add_row(
            f"{event.began:.0f} s", event.name, f"{event.ended - event.began:.1f} s", recovered, f"{pause:.1f} s"
        )
    console.print(blows)
    lines = Table("figure", "found", "wanted")
    for line in verdict.lines:
        wanted = "" if line.wanted is None else f"{line.wanted:g}"
        lines.add_row(line.name, f"{line.value:g}", wanted, style="" if line.ok else "bold red")
        for example in line.examples:
            lines.add_row(f"  {example}", "", "", style="red")
    console.print(lines)


def page(verdict: Verdict) -> str:
    """The page's HTML."""
    lines = "".join(
        f'<tr class="{"" if line.ok else "bad"}"><td>{escape("; ".join((line.name, *line.examples)))}</td>'
        f'<td class="n">{line.value:g}</td><td class="n">{"" if line.wanted is None else f"{line.wanted:g}"}</td></tr>'
        for line in verdict.lines
    )
    blows = "".join(
        f'<tr><td class="n">{event.began:.0f} s</td><td>{escape(event.name)}</td>'
        f'<td class="n">{event.ended - event.began:.1f} s</td>'
        f'<td class="n">{"never" if seconds is None else f"{seconds:.1f} s"}</td><td class="n">{pause:.1f} s</td></tr>'
        for event, seconds, pause in verdict.recovered
    )
    return _PAGE.format(
        seed=verdict.seed,
        title=verdict.title,
        summary=escape(verdict.summary),
        svg=time_line(verdict),
        lines=lines,
        blows=blows,
    )


def time_line(verdict: Verdict) -> str:
    """The picture, as SVG."""
    seconds = max(len(verdict.on_air), 1)
    most = max(*verdict.on_air, 1)
    scale = _WIDTH / seconds
    bars = "".join(
        f'<rect x="{place * scale:.1f}" y="{_HEIGHT - n * _HEIGHT / most:.1f}" width="{max(scale - 0.5, 0.5):.1f}"'
        f' height="{n * _HEIGHT / most:.1f}" fill="#48c"/>'
        for place, n in enumerate(verdict.on_air)
        if n
    )
    line = " ".join(
        f"{place * scale:.1f},{_HEIGHT - min(n, most) * _HEIGHT / most:.1f}" for place, n in enumerate(verdict.accepted)
    )
    marks, ends = [], [0.0] * len(verdict.recovered)
    for event, *_ in verdict.recovered:
        row = next(row for row in count() if row >= len(ends) or ends[row] <= event.began * scale)
        width = max((event.ended - event.began) * scale, 2)
        x, y = event.began * scale, _HEIGHT + 6 + row * _ROW
        ends[row] = x + width + 6 + 5.2 * len(event.name)
        marks.append(
            f'<rect x="{x:.1f}" y="0" width="{width:.1f}" height="{_HEIGHT}" fill="#e33" fill-opacity=".12"/>'
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="9" fill="#e33"/>'
            f'<text x="{x + width + 3:.1f}" y="{y + 8}">{escape(event.name)}</text>'
        )
    height = _HEIGHT + 14 + _ROW * max((place for place, end in enumerate(ends, 1) if end), default=0)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH + 150} {height}" width="100%">'
        f'{bars}<polyline points="{line}" fill="none" stroke="#999"/>{"".join(marks)}'
        f'<text x="2" y="10">{most}/s</text></svg>'
    )
