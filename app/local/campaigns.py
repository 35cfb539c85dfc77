"""`smsfleet campaign send`: a file and a text as a campaign on a running gateway, watched until it is over.

It speaks to the gateway by HTTP alone, so the gateway may be anywhere.
"""

import sys
import time
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.core.http_client import Client, HTTPError
from app.core.printable import printable

campaign_app = typer.Typer(help="Campaigns on a running gateway.", no_args_is_help=True, add_completion=False)
console = Console(highlight=False)

_TYPES = {
    ".csv": "text/csv",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_EVERY_SECONDS = 0.5
# A gateway that restarts is waited for.
_PATIENCE_SECONDS = 60
_SHOWN_LEFT_OUT = 5
_QUESTION = "Pause it (p), cancel it (c), or leave it running (l)?"


class Exit(IntEnum):
    """What the exit code says; 1 is an error or a "no", and 2 a wrong option."""

    DONE = 0
    NOT_STARTED = 1
    SOME_FAILED = 3
    PAUSED = 4
    CANCELLED = 5
    LEFT_RUNNING = 6


class GatewayError(Exception):
    """The gateway refused, in words for a person."""


class GatewayAwayError(Exception):
    """The gateway, or a proxy before it, cannot answer at present."""


_AWAY = (HTTPError, GatewayAwayError)


class Gateway:
    """A running gateway with an API key of its user."""

    def __init__(self, url: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        # A file of a million rows is read before it is answered.
        self._client = Client(base_url=url.rstrip("/"), headers=headers, timeout=900)

    def call(self, method: str, path: str, **options: Any) -> Any:
        """The data of an answer. Raises `GatewayError`, `GatewayAwayError`, and what httpx raises."""
        response = self._client.request(method, f"/api{path}", **options)
        if response.is_server_error:
            raise GatewayAwayError(f"it answered with status {response.status_code}")
        try:
            answer = response.json()
        except ValueError:
            raise GatewayError(f"the gateway answered with status {response.status_code}") from None
        if not response.is_success:
            raise GatewayError(str(answer.get("message")))
        return answer.get("data")


@campaign_app.callback()
def _group() -> None:
    """Campaigns on a running gateway."""


@campaign_app.command()
def send(  # noqa: PLR0917 - the command's options
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or XLSX; columns are placeholders.")],
    text: Annotated[str, typer.Option(help="The text, with placeholders such as {name} or {name|there}.")],
    url: Annotated[str, typer.Option(envvar="SMSFLEET_URL", help="The gateway's address.")],
    key: Annotated[str, typer.Option(envvar="SMSFLEET_API_KEY", help="An API key with `campaigns`.", show_envvar=True)],
    name: Annotated[str | None, typer.Option(help="What the campaign is called; the file's name without it.")] = None,
    number_column: Annotated[str | None, typer.Option(help="The column of the numbers, by header or place.")] = None,
    phone: Annotated[str | None, typer.Option(help="The phone that sends; without it all active ones.")] = None,
    per_minute: Annotated[int | None, typer.Option(min=1, help="At most so many messages a minute.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start without stopping.")] = False,  # noqa: FBT002 - an option
) -> None:
    """Upload a file, show what would be sent, ask, start, and show the progress.

    Exit code: 0 all sent, 3 some failed, 4 paused, 5 cancelled, 6 left running, 1 not started.
    """
    if not yes and not sys.stdin.isatty():
        _refuse("nobody can be asked here: add --yes to start without asking")
    gateway = Gateway(url, key)
    draft = {"name": name or file.name, "message": text, "device_id": phone or "active", "rate_per_minute": per_minute}
    try:
        campaign = gateway.call("POST", "/campaigns", json=draft)["id"]
        ready = _prepare(gateway, campaign, file, number_column, ask=not yes)
    except GatewayError as error:
        _refuse(str(error))
    except _AWAY as error:
        _refuse(f"the gateway at {url} cannot be reached: {error}")
    raise typer.Exit(_run(gateway, campaign) if ready else Exit.NOT_STARTED)


def _refuse(reason: str) -> NoReturn:
    typer.echo(reason, err=True)
    raise typer.Exit(Exit.NOT_STARTED)


def _prepare(gateway: Gateway, campaign: int, file: Path, number_column: str | None, *, ask: bool) -> bool:
    """Upload, show and ask; whether to start. A draft that is not to be started is deleted again."""
    ready = False
    try:
        with file.open("rb") as content, console.status(f"Uploading {file.name} …"):
            added = gateway.call(
                "PUT",
                f"/campaigns/{campaign}/recipients",
                content=content,
                params={"number_column": number_column} if number_column else None,
                headers={"Content-Type": _TYPES.get(file.suffix.lower(), "text/csv")},
            )
        _show_left_out(gateway, campaign, added)
        with console.status("Counting what would be sent …"):
            tried = gateway.call("POST", f"/campaigns/{campaign}/dry-run")
        _show(tried)
        ready = not ask or typer.confirm("Start?")
    finally:
        if not ready:
            gateway.call("DELETE", f"/campaigns/{campaign}")
    return ready


def _show_left_out(gateway: Gateway, campaign: int, added: Mapping[str, Any]) -> None:
    console.print(f"{added['added']:,} recipients, {added['left_out']:,} left out")
    if added["left_out"]:
        page = gateway.call("GET", f"/campaigns/{campaign}/left-out", params={"per_page": _SHOWN_LEFT_OUT})
        for row in page["data"]:
            _say(f"  line {row['line']}: {row['value']}: {row['sentence']}")
        if added["left_out"] > len(page["data"]):
            console.print(f"  and {added['left_out'] - len(page['data']):,} more")


def _show(tried: Mapping[str, Any]) -> None:
    lines = {
        "messages": f"{tried['recipients'] - tried['too_long']:,} of {tried['segments']:,} segments,"
        f" the longest has {tried['longest']}",
        "the first": tried["example"],
        "price": f"{tried['price']:,}",
        "phones": ", ".join(f"{each['name']}{'' if each['online'] else ' (offline)'}" for each in tried["devices"])
        or "none is active",
        "ends about": tried["ends_at"] or "not within a year, as things stand",
    }
    for empty in tried["empty_placeholders"]:
        where = ", ".join(map(str, empty["lines"]))
        lines[f"{{{empty['placeholder']}}} is empty"] = f"for {empty['recipients']:,}, in lines {where}"
    if tried["ucs2"]:
        lines["UCS-2"] = f"{tried['ucs2']:,} messages have characters that leave room for less than half"
    if tried["too_long"]:
        lines["not sent"] = f"{tried['too_long']:,}, whose text is too long or empty"
    for title, said in lines.items():
        _say(f"{title}: {said}")


def _say(line: str) -> None:
    """What others may have written: a file's cells, names of phones."""
    console.print(printable(line), markup=False)


def _run(gateway: Gateway, campaign: int) -> Exit:
    """Start the campaign and show its progress; at Ctrl-C ask what to do.

    It may have started when an answer was lost, so the exit code does not say that it was not: who believes it would
    send everything twice.
    """
    try:
        try:
            _start(gateway, campaign)
            return _follow(gateway, campaign)
        except KeyboardInterrupt:
            return _asked(gateway, campaign)
    except (GatewayError, *_AWAY) as error:
        typer.echo(f"Campaign {campaign} may go on without you: {error}", err=True)
        return Exit.LEFT_RUNNING


def _start(gateway: Gateway, campaign: int) -> None:
    try:
        _patiently(gateway, "POST", f"/campaigns/{campaign}/start")
    except GatewayError as error:
        if _patiently(gateway, "GET", f"/campaigns/{campaign}")["status"] == "draft":
            gateway.call("DELETE", f"/campaigns/{campaign}")
            _refuse(str(error))
        # It had started when it was asked before, and is over or stands still by now.


def _follow(gateway: Gateway, campaign: int) -> Exit:
    """Show the progress until the campaign is over or stands still."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("")
        while True:
            shown = _patiently(gateway, "GET", f"/campaigns/{campaign}")
            counts = shown["counts"]
            progress.update(bar, description=_said(counts), completed=_over(counts), total=counts["recipients"])
            if shown["status"] not in {"running", "scheduled"}:
                return _told(shown)
            time.sleep(_EVERY_SECONDS)


def _patiently(gateway: Gateway, method: str, path: str) -> Any:
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return gateway.call(method, path)
        except _AWAY:
            if time.monotonic() > until:
                raise
            time.sleep(_EVERY_SECONDS)


def _over(counts: Mapping[str, int]) -> int:
    return sum(counts[state] for state in ("sent", "delivered", "failed", "cancelled"))


def _said(counts: Mapping[str, int]) -> str:
    words = ("delivered", "sent", "failed", "given", "waiting")
    return ", ".join(f"{counts[word]:,} {word}" for word in words if counts[word]) or "started"


def _told(shown: Mapping[str, Any]) -> Exit:
    counts = shown["counts"]
    said = {name: counts[name] for name in ("delivered", "sent", "failed", "cancelled", "not_made") if counts[name]}
    console.print(f"{shown['status']}: " + ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in said.items()))
    if shown["status"] == "paused":
        _say(shown["reason"] or "")
        return Exit.PAUSED
    if shown["status"] == "cancelled":
        return Exit.CANCELLED
    return Exit.SOME_FAILED if counts["failed"] else Exit.DONE


def _asked(gateway: Gateway, campaign: int) -> Exit:
    """What to do with the campaign, which goes on meanwhile. Another Ctrl-C leaves it alone."""
    try:
        answer = typer.prompt(_QUESTION, default="l") if sys.stdin.isatty() else ""
    except typer.Abort:
        answer = ""
    if answer.strip().lower().startswith("p"):
        return _told(_patiently(gateway, "POST", f"/campaigns/{campaign}/pause"))
    if answer.strip().lower().startswith("c"):
        return _told(_patiently(gateway, "POST", f"/campaigns/{campaign}/cancel"))
    console.print(f"Campaign {campaign} goes on without you.")
    return Exit.LEFT_RUNNING
