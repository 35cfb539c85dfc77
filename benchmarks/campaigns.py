"""Campaigns: recipients out of files, how fast they are stored and what it costs the process that reads them; then such
campaigns at work (`benchmarks.at_work`).
"""

import tempfile
import threading
import time
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from app.core.bodies import CSV_TYPE, XLSX_TYPE
from app.local.installation import Installation, Shape
from benchmarks import at_work
from benchmarks.gateway import Account, Figure, check, installation

MB = 1024 * 1024
_HEADER = ("Phone", "First name", "Last name", "City", "Amount due")
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_SHEETS = '<sheets><sheet name="a" sheetId="1" r:id="r1"/></sheets>'
_WORKBOOK = f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}">{_SHEETS}</workbook>'
_LINKS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    f'<Relationship Id="r1" Type="{_RELATIONS}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>'
)


def run(*, smoke: bool = False) -> list[Figure]:
    rows, fewer = (2000, 500) if smoke else (1_000_000, 100_000)
    with installation(Shape(api=1)) as running, tempfile.TemporaryDirectory() as folder:
        account = Account(running)
        csv, small, large = (Path(folder) / name for name in ("rows.csv", "fewer.xlsx", "rows.xlsx"))
        csv.write_text("".join(",".join(row) + "\n" for row in _rows(rows)))
        _write_workbook(small, fewer)
        _write_workbook(large, rows)
        _upload(running, account, small, XLSX_TYPE, fewer)  # what is loaded once is not counted
        seconds, memory, campaign = _upload(running, account, csv, CSV_TYPE, rows)
        some, some_memory, _ = _upload(running, account, small, XLSX_TYPE, fewer)
        all_of_them, whole_memory, _ = _upload(running, account, large, XLSX_TYPE, rows)
        stopped = at_work.stopped(running, account, campaign, rows, smoke=smoke)
        end_to_end = at_work.end_to_end(running, smoke=smoke)
    return [
        Figure(f"CSV of {rows:,} recipients, five columns", rows / seconds, "rows/s", "≥ 50,000/s"),
        Figure("memory of the API process meanwhile", memory, "MB more", "≤ 100 MB"),
        Figure(f"XLSX of {fewer:,} recipients", some, "s"),
        Figure("memory of the API process meanwhile, small workbook", some_memory, "MB more", "≤ 150 MB"),
        Figure(f"XLSX of {rows:,} recipients", all_of_them, "s", "≤ 120 s"),
        Figure("memory of the API process meanwhile, large workbook", whole_memory, "MB more", "≤ 600 MB"),
        *stopped,
        *end_to_end,
    ]


def _rows(number: int) -> Iterator[tuple[str, ...]]:
    yield _HEADER
    for n in range(number):
        yield f"+99890{n:07d}", f"Name{n}", f"Family{n % 5000}", f"City of {n % 300}", f"{n % 100_000}.50"


def _write_workbook(file: Path, number: int) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("xl/workbook.xml", _WORKBOOK)
        archive.writestr("xl/_rels/workbook.xml.rels", _LINKS)
        with archive.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as sheet:
            sheet.write(f'<worksheet xmlns="{_MAIN}"><sheetData>'.encode())
            for row in _rows(number):
                sheet.write(f"<row>{_cells(row)}</row>".encode())
            sheet.write(b"</sheetData></worksheet>")


def _cells(row: Iterable[str]) -> str:
    return "".join(f'<c t="inlineStr"><is><t>{cell}</t></is></c>' for cell in row)


def _upload(running: Installation, account: Account, file: Path, kind: str, rows: int) -> tuple[float, float, str]:
    """Seconds, megabytes that the API process took more at its highest, and the campaign's address."""
    draft = {"name": file.name, "message": "Dear {first name}, {city}"}
    campaign = f"/api/campaigns/{account.call('POST', '/api/campaigns', draft)['id']}"
    with file.open("rb") as content, _highest(running.processes["api-1"].pid) as memory:
        began = time.perf_counter()
        answer = account.client.put(
            f"{campaign}/recipients", content=content, headers={"Content-Type": kind}, timeout=900
        )
        seconds = time.perf_counter() - began
    answer.raise_for_status()
    check("recipients", answer.json()["data"]["added"], rows)
    return seconds, memory[1] - memory[0], campaign


@contextmanager
def _highest(pid: int) -> Iterator[list[float]]:
    """Megabytes of a process: before, and the highest seen within."""
    process = psutil.Process(pid)
    seen = [process.memory_full_info().uss / MB] * 2
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            seen[1] = max(seen[1], process.memory_full_info().uss / MB)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
