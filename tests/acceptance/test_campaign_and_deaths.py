"""A campaign of 5,000 while every process is killed in turn, paused and resumed in between.

What is proven is seen in the phones' ledger of what went on air, and in a recount of rows beside what the API tells.
"""

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from app.local.installation import Installation, Shape
from phones.behaviour import Behaviour
from tests.acceptance.test_nothing_lost import Account
from tests.support.waiting import until
from tests.support.webhooks_receiver import Receiver

RECIPIENTS = 5000
PHONES = 6

pytestmark = pytest.mark.timeout(300)

_RECOUNT = """
    SELECT CASE WHEN m.id IS NULL THEN 'not_made' WHEN m.status <> 'pending' THEN m.status
                WHEN q.stage = 0 THEN 'waiting' WHEN q.stage = 3 THEN 'held' ELSE 'given' END, count(*)
    FROM campaign_recipients r LEFT JOIN messages m ON m.id = r.message_id
    LEFT JOIN message_queue q ON q.message_id = m.id
    WHERE r.campaign_id = %s GROUP BY 1
"""
_GIVEN_SINCE = """
    SELECT (SELECT count(*) FROM message_queue WHERE campaign_id = %(campaign)s AND released_at > %(since)s)
         + (SELECT count(*) FROM messages WHERE campaign_id = %(campaign)s AND released_at > %(since)s)
"""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    shape = Shape(api=2, dispatch=2, flower=False)
    with Installation(
        tmp_path_factory.mktemp("campaign") / "data",
        shape=shape,
        durable=False,
        output=lambda *_: None,
        port="0",
    ) as running:
        yield running


class Campaign:
    """One campaign, asked and looked at through whatever is alive."""

    def __init__(self, installation: Installation, account: Account) -> None:
        self._installation, self._account = installation, account
        self.id: int = account.call("POST", "/api/campaigns", {"name": "Sale", "message": "A campaign"})["id"]
        self.sql(
            "INSERT INTO campaign_recipients (campaign_id, place, number)"
            " SELECT %s, n, '+99890' || lpad(n::text, 7, '0') FROM generate_series(1, %s) n",
            self.id,
            RECIPIENTS,
        )
        self.sql("UPDATE campaigns SET recipients = %s WHERE id = %s", RECIPIENTS, self.id)

    def sql(self, statement: str, *values: object, **named: object) -> list[tuple]:
        def once() -> list[tuple] | None:
            try:
                with psycopg.connect(self._installation.database_url) as connection:
                    found = connection.execute(statement, named or values)
                    return found.fetchall() if found.description else [()]
            except psycopg.OperationalError:
                return None

        return until(once)

    def ask(self, verb: str) -> dict:
        """Again where the gateway dies before it has answered: twice is once."""
        return until(lambda: self._asked("POST", f"/{verb}"))

    def show(self) -> dict:
        return until(lambda: self._asked("GET", ""))

    def _asked(self, method: str, path: str) -> dict | None:
        try:
            return self._account.call(method, f"/api/campaigns/{self.id}{path}", {} if path else None)
        except (httpx.HTTPStatusError, httpx.TransportError) as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500:
                raise
            return None

    def gone(self) -> int:
        counts = self.show()["counts"]
        return counts["sent"] + counts["delivered"]


def test_each_recipient_is_sent_to_once_whatever_dies(installation: Installation) -> None:
    behaviour = Behaviour(send_time=0.01, delivery_delay=(0.05, 0.3), duplicates=0.05, reorder=0.05, time_factor=0.1)
    with Receiver() as receiver, Account(installation, receiver) as account, account.phones(PHONES, behaviour) as fleet:
        campaign = Campaign(installation, account)
        campaign.ask("start")
        for victim in list(installation.processes):
            before = campaign.gone()
            pid = installation.kill(victim)
            told = campaign.ask("pause")
            assert told["status"] == "paused"
            paused_at = campaign.sql("SELECT clock_timestamp()")[0][0]
            installation.wait_restarted(victim, pid)
            installation.kill("worker-dispatch-1")
            [(given,)] = campaign.sql(_GIVEN_SINCE, campaign=campaign.id, since=paused_at)
            assert given == 0, f"given out while paused, {victim} dead"
            campaign.ask("resume")
            until(lambda: campaign.gone() > before or campaign.show()["status"] == "finished", 120)  # noqa: B023
        until(lambda: campaign.show()["status"] == "finished", 240)
        until(lambda: campaign.show()["counts"]["delivered"] == RECIPIENTS, 60)
        counts = campaign.show()["counts"]
        recount = dict(campaign.sql(_RECOUNT, campaign.id))
        assert {name: counts[name] for name in recount} == recount == {"delivered": RECIPIENTS}
        names = {
            str(row[0]) for row in campaign.sql("SELECT message_id FROM messages WHERE campaign_id = %s", campaign.id)
        }
        assert len(names) == RECIPIENTS
        assert fleet.ledger.message_ids() == names
        assert not fleet.ledger.sent_twice()


ROWS = 20_000
_ADDING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%%campaigns%%'
"""


def test_of_an_upload_whose_process_is_killed_nothing_is_added(installation: Installation) -> None:
    """All rows are in the database already, and the campaign's row, which the test holds, is waited for."""
    rows = "Phone,Name\n" + "".join(f"+99890{number:07d},Name of {number}\n" for number in range(ROWS))
    with Receiver() as receiver, Account(installation, receiver) as account:
        campaign: int = account.call("POST", "/api/campaigns", {"name": "Sale", "message": "Hello {name}"})["id"]

        def upload() -> dict:
            answer = account.client.put(
                f"/api/campaigns/{campaign}/recipients", content=rows, headers={"Content-Type": "text/csv"}
            )
            answer.raise_for_status()
            return answer.json()["data"]

        def upload_until_killed() -> None:
            with contextlib.suppress(httpx.TransportError):
                upload()

        uploading = threading.Thread(target=upload_until_killed)
        with psycopg.connect(installation.database_url) as holding:
            holding.execute("SELECT FROM campaigns WHERE id = %s FOR UPDATE", (campaign,))
            uploading.start()
            with psycopg.connect(installation.database_url, autocommit=True) as sql:
                until(lambda: sql.execute(_ADDING).fetchone() == (1,))
            [name] = [name for name in ("api-1", "api-2") if (files := spooled(installation.processes[name].pid))]
            assert all(file.endswith("(deleted)") for file in files), "the system takes them when the process dies"
            pid = installation.kill(name)
            uploading.join()
        with psycopg.connect(installation.database_url, autocommit=True) as sql:
            until(lambda: sql.execute(_ADDING).fetchone() == (0,))
            stored = "SELECT count(*), count(DISTINCT number) FROM campaign_recipients WHERE campaign_id = %s"
            assert sql.execute(stored, (campaign,)).fetchone() == (0, 0)
            installation.wait_restarted(name, pid)
            first, second = until(lambda: _answered(upload)), until(lambda: _answered(upload))
            assert (first["added"], first["left_out"]) == (ROWS, 0)
            assert (second["added"], second["reasons"]) == (0, {"duplicate": ROWS})
            assert sql.execute(stored, (campaign,)).fetchone() == (ROWS, ROWS)
        assert account.call("GET", f"/api/campaigns/{campaign}")["counts"]["recipients"] == ROWS


def spooled(pid: int) -> list[str]:
    """The temporary files that a process has open."""
    names = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            names.append(str(each.readlink()))
    return [name for name in names if name.startswith(f"{tempfile.gettempdir()}/")]


def _answered(upload: Callable[[], dict]) -> dict | None:
    with contextlib.suppress(httpx.TransportError):
        return upload()
    return None
