"""`smsfleet phones simulate`: a fleet on the command line."""

import asyncio
import gc
import signal
import time
from pathlib import Path
from typing import Annotated, Literal

import typer
import uvloop

from phones.behaviour import Behaviour, Seconds, parse_seconds
from phones.client import PhoneError
from phones.fleet import Fleet, FleetError
from phones.http import Url
from phones.ledger import Ledger

_BETWEEN_LINES = 1.0


async def run(
    server: str, token: str, *, phones: int, behaviour: Behaviour, ledger: Path | None, duration: float | None
) -> None:
    """Run a fleet until `duration` seconds are over, or SIGINT or SIGTERM comes, with a line of figures a second.

    Raises FleetError if the phones cannot connect, or such a signal comes before they have.
    """
    stop = asyncio.Event()
    starting = asyncio.current_task()

    def end() -> None:
        stop.set()
        if starting is not None:
            starting.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end)
    book = Ledger(ledger)
    try:
        async with Fleet(server, token, count=phones, behaviour=behaviour, ledger=book) as fleet:
            starting = None
            typer.echo(f"{phones} phones are connected to {server}; Ctrl-C ends them")
            await _watch(fleet, stop, duration)
            typer.echo(f"\n{_summary(fleet, 0.0)}")
            typer.echo(f"sent twice: {len(book.sent_twice())}, reports not taken: {fleet.stats.gave_up}")
    except asyncio.CancelledError:
        raise FleetError("ended before the phones were connected") from None
    finally:
        book.close()


async def _watch(fleet: Fleet, stop: asyncio.Event, duration: float | None) -> None:
    end = None if duration is None else time.monotonic() + duration
    before = 0
    while not stop.is_set() and (end is None or time.monotonic() < end):
        left = _BETWEEN_LINES if end is None else max(0.0, min(_BETWEEN_LINES, end - time.monotonic()))
        try:
            async with asyncio.timeout(left):
                await stop.wait()
        except TimeoutError:
            typer.echo(f"\r{_summary(fleet, (fleet.stats.sent - before) / _BETWEEN_LINES)}", nl=False)
            before = fleet.stats.sent


def _summary(fleet: Fleet, rate: float) -> str:
    stats = fleet.stats
    connected = sum(phone.connected.is_set() for phone in fleet.phones)
    return (
        f"connected {connected}  received {stats.messages}  sent {stats.sent}  delivered {stats.delivered}  "
        f"failed {stats.failed}  cancelled {stats.cancelled}  errors {stats.errors}  {rate:.0f}/s "
    )


def _seconds(text: str) -> Seconds:
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}; give seconds as 0.3 or 0.1-0.5") from error


def _address(text: str) -> str:
    try:
        Url.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}; give it as http://host:port") from error
    return text


def _rate(value: float) -> float:
    if not 0 <= value <= 1:
        raise typer.BadParameter("give a share from 0 to 1")
    return value


Share = Annotated[float, typer.Option(callback=_rate)]


phones_app = typer.Typer(help="Simulated phones, for trying a gateway.", no_args_is_help=True)


@phones_app.callback()
def _commands() -> None:
    """Keep `simulate` a command of its own although it is the only one."""


@phones_app.command()
def simulate(  # noqa: PLR0917  (called by name, from the command line)
    token: Annotated[str, typer.Option(help="private token: an API key with phone:enroll", envvar="SMSFLEET_TOKEN")],
    server: Annotated[str, typer.Option(callback=_address, help="the gateway's address")] = "http://127.0.0.1:8000",
    phones: Annotated[int, typer.Option(min=1)] = 5,
    send_time: Annotated[str, typer.Option(help="seconds an SMS takes: 0.3, or 0.1-0.5")] = "0.3",
    delivery_delay: Annotated[str, typer.Option(help="seconds until the delivery report")] = "1",
    failure_rate: Share = 0,
    lost_answers: Share = 0,
    duplicates: Share = 0,
    reorder: Share = 0,
    disconnects: Annotated[str, typer.Option(help="seconds until a phone's stream drops; 0: never")] = "0",
    app_version: Annotated[str, typer.Option(help="version of the app to behave as")] = Behaviour().app_version,
    reports: Annotated[Literal["single", "array"], typer.Option()] = "single",
    ledger: Annotated[Path | None, typer.Option(help="file to note what went on air, JSON lines")] = None,
    duration: Annotated[float | None, typer.Option(min=0, help="seconds to run; not given: until Ctrl-C")] = None,
) -> None:
    """Run simulated phones against a gateway."""
    drop_after = _seconds(disconnects)
    behaviour = Behaviour(
        send_time=_seconds(send_time),
        delivery_delay=_seconds(delivery_delay),
        failure_rate=failure_rate,
        lost_answers=lost_answers,
        duplicates=duplicates,
        reorder=reorder,
        disconnect_every=drop_after or None,
        app_version=app_version,
        reports=reports,
    )
    # A fifth of its time would go to looking at what the modules made.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(server, token, phones=phones, behaviour=behaviour, ledger=ledger, duration=duration))
    except (FleetError, PhoneError) as error:
        typer.echo(f"smsfleet: {error}", err=True)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    phones_app()
