"""An Android phone with Termux and Termux:API as a phone of the gateway: `python -m phones.termux`.

Termux hands an SMS over to Android and learns nothing more: not whether it was sent, not whether it arrived, and a
missing permission or a wrong SIM slot fails without a word. So a message ends as `Processed` ("handed over"), which
the gateway shows as pending until its validity is over and then as uncertain. Who would rather have it shown as sent
says `--count-handover-as-sent`, and then "sent" means no more than that Android was told to.

New SMS are found by asking for ids above the last one seen. SMS older than the agent's first start are left alone.
"""

import asyncio
import hashlib
import json
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any

import typer

from phones.agent import OutcomeUnknownError, SendError, plain_number, run_agent
from phones.journal import Job, Journal
from phones.wire import DateFormat, ReceivedSms, State

_COMMAND_WITHIN = 60.0
_AT_ONCE = 100
_LAST_SEEN = "termux_last_id"


class Termux:
    """The Termux:API commands as a modem. They are looked up on PATH."""

    def __init__(self, sims: int = 1, *, handover_is_sent: bool = False, own_number: str | None = None) -> None:
        self.sims = sims
        self._handover_is_sent = handover_is_sent
        self._own_number = own_number
        self._date = DateFormat()

    async def send(self, job: Job, journal: Journal) -> State:  # noqa: ARG002  (there is nothing to note)
        """Hand a message over by `termux-sms-send`, the text on its standard input."""
        arguments = ["-n", ",".join(plain_number(number) for number in job.numbers)]
        if job.sim_number is not None:
            arguments += ["-s", str(job.sim_number - 1)]
        try:
            code, output = await _run("termux-sms-send", arguments, job.text)
        except TimeoutError as error:
            raise OutcomeUnknownError("termux-sms-send did not come back") from error
        except OSError as error:
            raise SendError(f"termux-sms-send cannot be started: {error}") from error
        if code != 0:
            raise SendError(f"termux-sms-send ended with {code}: {output.decode(errors='replace').strip()[:200]}")
        return State.SENT if self._handover_is_sent else State.PROCESSED

    async def poll(self, journal: Journal) -> None:
        """Read new SMS by `termux-sms-list`. They and the last id seen are kept together."""
        last = journal.fact(_LAST_SEEN)
        if last is None:
            newest = await self._list("type == 1", "_id DESC", limit=1)
            journal.remember(_LAST_SEEN, str(max((row["_id"] for row in newest), default=0)))
            return
        rows = await self._list(f"type == 1 and _id > {int(last)}", "_id ASC", limit=_AT_ONCE)
        if rows:
            with journal.together():
                for row in rows:
                    journal.receive(*self._received(row))
                journal.remember(_LAST_SEEN, str(max(row["_id"] for row in rows)))

    async def _list(self, selection: str, order: str, limit: int) -> list[dict[str, Any]]:
        arguments = ["-l", str(limit), f"--message-selection={selection}", f"--message-sort-order={order}"]
        code, output = await _run("termux-sms-list", [*arguments, "--message-return-no-order-reverse"])
        try:
            rows = json.loads(output)
        except ValueError as error:
            raise OSError(f"termux-sms-list ({code}) gave no JSON: {output[:200]!r}") from error
        if not isinstance(rows, list):
            raise OSError(f"termux-sms-list: {rows}")
        return rows

    def _received(self, row: dict[str, Any]) -> tuple[str, ReceivedSms]:
        """Make the event of one row. `received` is local time, in whole seconds and without a zone."""
        number = row.get("number") or row.get("address") or ""
        at = datetime.fromisoformat(row["received"]).astimezone().timestamp()
        identity = json.dumps([row["_id"], row["received"], number, row["body"]])
        digest = hashlib.sha256(identity.encode()).hexdigest()
        sms = ReceivedSms(
            message=row["body"],
            received_at=self._date(at),
            message_id=digest[:8],
            sender=number,
            phone_number=number,
            recipient=self._own_number,
        )
        return digest[:21], sms


async def _run(program: str, arguments: list[str], text: str = "") -> tuple[int, bytes]:
    """Run a command to its end: exit code and what it said. TimeoutError: it did not end, and was ended.

    Its input is a file that is complete before it starts: on a pipe, an agent killed meanwhile would leave it with the
    beginning of the text, which it would send.
    """
    with TemporaryFile() as stdin:
        stdin.write(text.encode())
        stdin.seek(0)
        process = await asyncio.create_subprocess_exec(
            program, *arguments, stdin=stdin, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
    try:
        async with asyncio.timeout(_COMMAND_WITHIN):
            output, _ = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, output


def command(
    server: Annotated[str, typer.Option(help="the gateway's address")],
    token: Annotated[str, typer.Option(help="private token: an API key with phone:enroll", envvar="SMSFLEET_TOKEN")],
    *,
    state: Annotated[Path, typer.Option(help="file with the agent's state")] = Path("smsfleet-termux.db"),
    name: Annotated[str, typer.Option(help="the phone's name")] = "termux/phone",
    sims: Annotated[int, typer.Option(min=1, max=3)] = 1,
    own_number: Annotated[str | None, typer.Option(help="the phone's own number")] = None,
    poll_every: Annotated[float, typer.Option(min=0.01, help="seconds between checks for new SMS")] = 10,
    count_handover_as_sent: Annotated[
        bool, typer.Option(help="report an SMS as sent once Android has accepted it")
    ] = False,
    patience: Annotated[float, typer.Option(hidden=True)] = 1,
) -> None:
    """Make this Android phone one of the gateway's, by Termux:API."""
    modem = Termux(sims, handover_is_sent=count_handover_as_sent, own_number=own_number)
    asyncio.run(run_agent(modem, state, server, token, name=name, poll_every=poll_every, patience=patience))


if __name__ == "__main__":
    typer.run(command)
