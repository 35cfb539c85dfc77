"""`smsfleet phones simulate`: a fleet on the command line, and `receive`, which gives it an SMS."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer
import uvloop

from phones.behaviour import Behaviour, Seconds, parse_seconds
from phones.client import GatewayClient, PhoneError, RefusedError
from phones.control import Command, End, NotRunningError, Receive, RefusedCommandError, command, listening
from phones.fleet import Fleet, FleetError
from phones.http import HttpClient, Url
from phones.ledger import Ledger
from phones.memory import FolderError, Memory
from phones.wire import parse_version

_BETWEEN_LINES = 1.0
_HOOKS_WITHIN = 5.0
_TAKEN_WITHIN = 30.0
_ENDED_WITHIN = 20.0
DEFAULT_PHONES = 5


def default_state() -> Path:
    """Where simulated phones are kept: in the data folder of the installation that is tried."""
    return Path(os.environ.get("SMSFLEET_DATA_DIR") or ".smsfleet") / "simulated"


async def run(
    server: str,
    token: str,
    *,
    phones: int,
    behaviour: Behaviour,
    ledger: Path | None,
    duration: float | None,
    state: Path,
    memory: Memory,
) -> None:
    """Run a fleet until `duration` seconds are over, a signal or a command ends it; figures, at a terminal each second.

    Raises FleetError if the phones cannot connect, or are to end before they have, or the ledger cannot be written.
    """
    stop = asyncio.Event()
    starting = asyncio.current_task()

    def end() -> None:
        stop.set()
        if starting is not None:
            starting.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end)
    try:
        book = Ledger(ledger)
    except OSError as error:
        raise FleetError(f"the ledger {ledger} cannot be written ({error.strerror})") from None
    fleet = Fleet(server, token, count=phones, behaviour=behaviour, ledger=book, memory=memory)

    async def carry_out(order: Command) -> str:
        if isinstance(order, Receive):
            return await _receive(fleet, order)
        end()
        return ""

    try:
        await _check_gateway(server, state, memory)
        async with listening(state, carry_out), fleet:
            starting = None
            typer.echo(f"{phones} phones are connected to {server}; Ctrl-C ends them")
            if (others := len(memory.phones) - phones) > 0:
                typer.echo(f"{others} more of {state} stay off")
            await _watch(fleet, stop, duration)
            if sys.stdout.isatty():
                typer.echo()
            typer.echo(_summary(fleet, 0.0))
            typer.echo(f"sent twice: {len(book.sent_twice())}, reports not taken: {fleet.stats.gave_up}")
    except asyncio.CancelledError:
        raise FleetError("ended before the phones were connected") from None
    finally:
        book.close()


async def _check_gateway(server: str, state: Path, memory: Memory) -> None:
    """Keep the gateway's address. FleetError: the phones are another one's, where they would stay behind, dead."""
    if memory.phones and memory.server != server:
        http = HttpClient()
        client = GatewayClient(http, server)
        client.token = next(iter(memory.phones.values())).token
        try:
            await client.settings()
        except RefusedError:
            raise FleetError(
                f"the phones of {state} are enrolled at {memory.server}; --state names a folder for others"
            ) from None
        except PhoneError:
            pass  # which the phones will tell
        finally:
            await http.close()
    memory.belong_to(server)


async def _receive(fleet: Fleet, order: Receive) -> str:
    if not 0 <= order.phone < len(fleet.phones):
        raise RefusedCommandError(f"there is no phone {order.phone}: they are 0 to {len(fleet.phones) - 1}")
    phone = fleet.phones[order.phone]
    if not 1 <= order.sim <= phone.behaviour.sims:
        raise RefusedCommandError(f"{phone.name} has no SIM {order.sim}")
    try:
        await fleet.wait_until(lambda: bool(phone.hooks.known), _HOOKS_WITHIN)
        async with asyncio.timeout(_TAKEN_WITHIN):
            await phone.receive(order.sender, order.text, order.sim)
    except FleetError:
        reason = f"the gateway has told {phone.name} nowhere to post what it receives; does it await approval?"
        raise RefusedCommandError(reason) from None
    except PhoneError as error:
        raise RefusedCommandError(str(error)) from None
    except TimeoutError:
        reason = f"the gateway has not taken it within {_TAKEN_WITHIN:g} s; {phone.name} goes on trying"
        raise RefusedCommandError(reason) from None
    return f"{phone.name} has received it, and the gateway has taken it"


async def _watch(fleet: Fleet, stop: asyncio.Event, duration: float | None) -> None:
    end = None if duration is None else time.monotonic() + duration
    before = 0
    while not stop.is_set() and (end is None or time.monotonic() < end):
        left = _BETWEEN_LINES if end is None else max(0.0, min(_BETWEEN_LINES, end - time.monotonic()))
        try:
            async with asyncio.timeout(left):
                await stop.wait()
        except TimeoutError:
            if sys.stdout.isatty():
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


def _version(text: str) -> str:
    try:
        parse_version(text)
    except ValueError:
        raise typer.BadParameter("give it as 1.68.0") from None
    return text


def _rate(value: float) -> float:
    if not 0 <= value <= 1:
        raise typer.BadParameter("give a share from 0 to 1")
    return value


Share = Annotated[float, typer.Option(callback=_rate)]


State = Annotated[
    Path,
    typer.Option(
        default_factory=default_state, show_default="simulated in the data folder", help="folder of the phones"
    ),
]

phones_app = typer.Typer(help="Simulated phones to try a gateway.", no_args_is_help=True, add_completion=False)


@phones_app.command()
def simulate(  # noqa: PLR0917  (called by name, from the command line)
    state: State,
    token: Annotated[
        str,
        typer.Option(
            help="private token: an API key with phone:enroll; not needed for phones that come back",
            envvar="SMSFLEET_TOKEN",
        ),
    ] = "",
    server: Annotated[str, typer.Option(callback=_address, help="the gateway's address")] = "http://127.0.0.1:8000",
    phones: Annotated[
        int | None, typer.Option(min=1, help=f"not given: those of before, {DEFAULT_PHONES} at first")
    ] = None,
    send_time: Annotated[str, typer.Option(help="seconds an SMS takes: 0.3, or 0.1-0.5")] = "0.3",
    delivery_delay: Annotated[str, typer.Option(help="seconds until the delivery report")] = "1",
    failure_rate: Share = 0,
    lost_answers: Share = 0,
    duplicates: Share = 0,
    reorder: Share = 0,
    disconnects: Annotated[str, typer.Option(help="seconds until a phone's stream drops; 0: never")] = "0",
    app_version: Annotated[
        str, typer.Option(callback=_version, help="app version to imitate, such as 1.75.0")
    ] = Behaviour().app_version,
    reports: Annotated[Literal["single", "array"], typer.Option()] = "single",
    ledger: Annotated[Path | None, typer.Option(help="file to log sent SMS to, as JSON lines")] = None,
    duration: Annotated[float | None, typer.Option(min=0, help="seconds to run; default: until Ctrl-C")] = None,
) -> None:
    """Run simulated phones against a gateway. Run again, they are the same phones."""
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
        memory = Memory(state)
        count = phones or len(memory.phones) or DEFAULT_PHONES
        if count > len(memory.phones) and not token:
            raise typer.BadParameter("phones that are new need a private token", param_hint="--token")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(
                run(
                    server,
                    token,
                    phones=count,
                    behaviour=behaviour,
                    ledger=ledger,
                    duration=duration,
                    state=state,
                    memory=memory,
                )
            )
    except (FleetError, PhoneError, FolderError) as error:
        typer.echo(f"smsfleet: {error}", err=True)
        raise typer.Exit(1) from error


@phones_app.command()
def receive(
    text: Annotated[str, typer.Argument(help="the message")],
    state: State,
    sender: Annotated[str, typer.Option("--from", help="who sends it: a number or a name")],
    phone: Annotated[int, typer.Option(min=0, help="which phone, by the number in its name")] = 0,
    sim: Annotated[int, typer.Option(min=1, help="by which of its SIM cards")] = 1,
) -> None:
    """Let a simulated phone that runs receive an SMS."""
    if not sender.strip():
        raise typer.BadParameter("is empty", param_hint="--from")
    try:
        typer.echo(command(state, Receive(sender, text, phone, sim)))
    except (NotRunningError, RefusedCommandError) as error:
        typer.echo(f"smsfleet: {error}", err=True)
        raise typer.Exit(1) from error


def end_and_hold(state: Path) -> Memory:
    """End the phones that run from the folder, if any do, and hold it. Raises FolderError."""
    with contextlib.suppress(NotRunningError, RefusedCommandError):
        command(state, End())
    return Memory(state, wait=_ENDED_WITHIN)


if __name__ == "__main__":
    phones_app()
