"""A USB modem as a phone of the gateway, by python-gammu: `python -m phones.gammu_modem`.

python-gammu is GPL, so it is not among the dependencies; who has a modem installs it. The modem confirms each SMS when
the network takes it (`Sent`), and a status report tells of its arrival (`Delivered`, the first part's is enough).
Inbound SMS are joined from their parts, kept in the journal, and only then deleted from the modem. While the modem is
away messages wait.
"""

import asyncio
import hashlib
import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from phones.agent import ModemAwayError, OutcomeUnknownError, SendError, plain_number, run_agent
from phones.journal import Job, Journal
from phones.wire import DateFormat, ReceivedSms, State

_FIRST_PENDING = 0x20
_FIRST_PERMANENT = 0x40
_GONE = ("ERR_DEVICE", "ERR_TIMEOUT")

_GSM7 = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà^{}\\[~]|€\f"
)
"""What fits into the network's own alphabet; a text with anything else is sent as Unicode."""

T = TypeVar("T")


class GammuModem:
    """One modem. gammu blocks and is not safe for threads, so a single thread makes all calls."""

    sims = 1

    def __init__(self, config: dict[str, str] | Path, own_number: str | None = None) -> None:
        self._gammu: Any = importlib.import_module("gammu")
        self._config = config
        self._own_number = own_number
        self._date = DateFormat()
        self._machine: Any = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="modem")

    async def send(self, job: Job, journal: Journal) -> State:
        """Send all parts of a message, one after the other."""
        for place, number in enumerate(job.numbers):
            try:
                references = await self._call(partial(self._send, job, plain_number(number)))
            except ModemAwayError as error:
                if place == 0:
                    raise
                raise SendError(f"to {number}: {error}") from error
            for reference in references:
                journal.sent_part(job.id, plain_number(number), reference)
        return State.SENT

    def _send(self, job: Job, number: str) -> list[int]:
        """Give the network's reference of each part."""
        references: list[int] = []
        machine = self._open()
        try:
            parts = self._gammu.EncodeSMS(
                {
                    "Class": -1,
                    "Unicode": not _GSM7.issuperset(job.text),
                    "Entries": [{"ID": "ConcatenatedTextLong", "Buffer": job.text}],
                }
            )
            for part in parts:
                part["SMSC"] = {"Location": 1}
                part["Number"] = number
                if job.delivery_report:
                    part["Type"] = "Status_Report"
                references.append(machine.SendSMS(part))
        except self._gammu.ERR_TIMEOUT as error:
            self._drop_if_gone()
            raise OutcomeUnknownError(f"the modem did not answer: {error}") from error
        except self._gammu.GSMError as error:
            if self._drop_if_gone() and not references:
                raise ModemAwayError(f"the modem: {error}") from error
            raise SendError(f"part {len(references) + 1}: {error}") from error
        return references

    async def poll(self, journal: Journal) -> None:
        """Read what is on the modem: status reports and SMS whose parts are all there."""
        for parts in await self._call(self._read):
            if parts[0]["Type"] == "Status_Report":
                self._note_delivery(parts[0], journal)
            else:
                journal.receive(*self._received(parts))
            await self._call(partial(self._delete, parts))

    def _read(self) -> list[list[dict[str, Any]]]:
        """Give everything on the modem, an SMS in parts as one; what is not complete yet is left where it is."""
        found: list[list[dict[str, Any]]] = []
        try:
            machine = self._open()
            parts = machine.GetNextSMS(Folder=0, Start=True)
            while True:
                found.append(parts)
                parts = machine.GetNextSMS(Folder=0, Location=parts[0]["Location"])
        except self._gammu.ERR_EMPTY:
            reports = [parts for parts in found if parts[0]["Type"] == "Status_Report"]
            messages = [parts for parts in found if parts[0]["Type"] != "Status_Report"]
            linked = self._gammu.LinkSMS(messages) if messages else []
            return reports + [parts for parts in linked if _is_complete(parts)]
        except self._gammu.GSMError as error:
            self._drop_if_gone()
            raise OSError(f"the modem: {error}") from error

    def _note_delivery(self, report: dict[str, Any], journal: Journal) -> None:
        message_id = journal.message_of(report["MessageReference"], report["Number"])
        status = report["DeliveryStatus"]
        if message_id is None or _FIRST_PENDING <= status < _FIRST_PERMANENT:
            return
        if status < _FIRST_PENDING:
            journal.delivered(message_id)
        else:
            journal.fail(message_id, f"Delivery result: {status}")

    def _received(self, parts: list[dict[str, Any]]) -> tuple[str, ReceivedSms]:
        decoded = self._gammu.DecodeSMS(parts)
        entries = decoded["Entries"] if decoded is not None else []
        text = "".join(entry["Buffer"] or "" for entry in entries) or parts[0]["Text"]
        first = parts[0]
        digest = hashlib.sha256(f"{first['Number']}\n{first['DateTime']}\n{text}".encode()).hexdigest()
        sms = ReceivedSms(
            message=text,
            received_at=self._date(first["DateTime"].astimezone().timestamp()),
            message_id=digest[:8],
            sender=first["Number"],
            phone_number=first["Number"],
            sim_number=1,
            recipient=self._own_number,
        )
        return digest[:21], sms

    def _delete(self, parts: list[dict[str, Any]]) -> None:
        try:
            for part in parts:
                self._open().DeleteSMS(Folder=0, Location=part["Location"])
        except self._gammu.GSMError as error:
            self._drop_if_gone()
            raise OSError(f"the modem: {error}") from error

    def _open(self) -> Any:
        """Connect to the modem at the first use, and again after a failure to connect or when it was gone.

        Raises ModemAwayError.
        """
        if self._machine is None:
            machine = self._gammu.StateMachine()
            if isinstance(self._config, Path):
                machine.ReadConfig(Filename=str(self._config))
            else:
                machine.SetConfig(0, self._config)
            try:
                machine.Init()
            except self._gammu.GSMError as error:
                raise ModemAwayError(f"the modem: {error}") from error
            self._machine = machine
        return self._machine

    def _drop_if_gone(self) -> bool:
        """After an error: look for a sign of life, and where there is none let the modem be opened anew.

        The error itself does not tell: a modem that was unplugged "failed to get the SMSC number" of an SMS.
        """
        try:
            self._machine.GetSignalQuality()
        except self._gammu.GSMError as error:
            if not type(error).__name__.startswith(_GONE):
                return False
            with suppress(self._gammu.GSMError):
                self._machine.Terminate()
            self._machine = None
            return True
        return False

    async def _call(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _is_complete(parts: list[dict[str, Any]]) -> bool:
    expected = (parts[0].get("UDH") or {}).get("AllParts", -1)
    return expected in {-1, 0} or len(parts) >= expected


def command(
    server: Annotated[str, typer.Option(help="the gateway's address")],
    token: Annotated[str, typer.Option(help="private token: an API key with phone:enroll", envvar="SMSFLEET_TOKEN")],
    *,
    device: Annotated[str, typer.Option(help="the modem's serial device")] = "/dev/ttyUSB0",
    connection: Annotated[str, typer.Option(help="gammu's connection type")] = "at",
    config: Annotated[Path | None, typer.Option(help="a gammurc file, instead of the two options above")] = None,
    state: Annotated[Path, typer.Option(help="file with the agent's state")] = Path("smsfleet-modem.db"),
    name: Annotated[str, typer.Option(help="the modem's name")] = "gammu/modem",
    own_number: Annotated[str | None, typer.Option(help="the modem's own number")] = None,
    poll_every: Annotated[float, typer.Option(min=0.01, help="seconds between checks for new SMS")] = 5,
    patience: Annotated[float, typer.Option(hidden=True)] = 1,
) -> None:
    """Make a USB modem one of the gateway's phones, by python-gammu."""
    try:
        modem = GammuModem(config or {"Device": device, "Connection": connection}, own_number)
    except ModuleNotFoundError as error:
        typer.echo(
            "python-gammu is not installed; it is GPL and therefore yours to add: pip install python-gammu", err=True
        )
        raise typer.Exit(1) from error
    asyncio.run(run_agent(modem, state, server, token, name=name, poll_every=poll_every, patience=patience))


if __name__ == "__main__":
    typer.run(command)
