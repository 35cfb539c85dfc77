"""A backup during a campaign, restored elsewhere: nothing is on air twice, and every figure is the recount."""

import threading
import zipfile
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from app.core.database import close_engines
from app.core.settings import get_settings
from app.local import backup, restore
from app.local.errors import LocalError
from app.messages.dispatch import sweeping
from app.messages.life import expiry
from tests.support.waiting import until
from workers.base import in_transaction

NAME = "elsewhere"
LATER = (datetime.now(UTC) + timedelta(days=10)).isoformat()


@pytest.fixture
def elsewhere(servers, monkeypatch):
    """Another database that the gateway works on while one is inside; the connection looks into it."""

    @contextmanager
    def move(file=None, **options):
        with psycopg.connect(servers.postgres.url_of("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {NAME}")
        try:
            with monkeypatch.context() as patch:
                patch.setenv("SMSFLEET_DATABASE_URL", servers.postgres.url_of(NAME))
                get_settings.cache_clear()
                close_engines()
                if file is not None:
                    restore.restore(file, **options)
                with psycopg.connect(servers.postgres.url_of(NAME), autocommit=True) as there:
                    yield there
        finally:
            get_settings.cache_clear()
            close_engines()

    return move


def number_of(sql, query, *values):
    return sql.execute(query, values).fetchone()[0]


def figures_are_the_recount(client, sql):
    stats = client.get("/api/account").json()["data"]["stats"]
    counted = {
        "total_sent": "status IN ('sent', 'delivered', 'failed')",
        "total_delivered": "status = 'delivered'",
        "total_failed": "status = 'failed'",
        "total_pending": "status = 'pending'",
    }
    wanted = {name: number_of(sql, f"SELECT count(*) FROM messages WHERE {which}") for name, which in counted.items()}
    assert {name: stats[name] for name in counted} == wanted
    return wanted


def test_nothing_goes_out_twice_after_a_restore(client, enroll, campaign, ask, look, elsewhere, tmp_path):
    phones = [enroll(name="one"), enroll(name="two")]
    running, draft, scheduled = campaign(60, name="running"), campaign(5, name="draft"), campaign(5, name="scheduled")
    ask(running, "start")
    ask(scheduled, "start", start_at=LATER)
    later = {"message": "Later", "recipient_number": "+998901112233", "send_at": LATER}
    assert client.post("/api/sms", json=later).status_code == 201
    look()
    for phone in phones:  # some are sent, some are given, some wait, some are not made
        for message in phone.pull()[:5]:
            phone.send(message["id"])
    backup.take(tmp_path / "b.zip")
    ask(draft, "start")
    never = list(phones[1].held)[-3:]  # it has them and does not come to send them
    for _ in range(6):
        look()
        for phone in phones:
            phone.pull()
            for name in phone.held.keys() - {*never, *phone.on_air}:
                phone.send(name)
    on_air = [name for phone in phones for name in phone.on_air]
    assert len(on_air) == len(set(on_air)) == 62
    with elsewhere(tmp_path / "b.zip") as there:
        assert number_of(there, "SELECT count(*) FROM message_queue") == 0
        for _ in range(3):
            in_transaction(sweeping.sweep)
            in_transaction(expiry.expire)
            look()
            assert [phone.pull() for phone in phones] == [[], []]
        before = figures_are_the_recount(client, there)
        assert before["total_pending"] == 0
        for phone in phones:  # which never heard that their reports were taken
            assert phone.report_all([phone.item(name, "Delivered") for name in phone.on_air]) == 204
        after = figures_are_the_recount(client, there)
        known = {str(one) for (one,) in there.execute("SELECT message_id FROM messages")}
        assert after["total_delivered"] == len(known.intersection(on_air)) > before["total_delivered"]
        unknown = {str(one) for (one,) in there.execute("SELECT message_id FROM messages WHERE status = 'failed'")}
        assert unknown >= set(never)
        assert not unknown.intersection(on_air)
        assert number_of(there, "SELECT count(*) FROM messages WHERE status = 'failed' AND NOT uncertain") == 0
        shown = {each["name"]: each for each in client.get("/api/campaigns").json()["data"]["data"]}
        assert (shown["running"]["status"], shown["running"]["paused_by"]) == ("paused", "restore")
        assert {shown[name]["status"] for name in ("draft", "scheduled")} == {"draft"}
        assert all("restored from a backup" in each["reason"] for each in shown.values())
        counts = shown["running"]["counts"]
        assert counts["uncertain"] == number_of(
            there, "SELECT count(*) FROM messages WHERE campaign_id = %s AND uncertain", running
        )
        assert counts["recipients"] == 60
        # What is new gets a number that nobody knows yet.
        made = client.post("/api/sms", json={"message": "New", "recipient_number": "+998901112244"}).json()["data"]
        assert made["id"] > restore.UNUSED_NUMBERS
        look()
        assert [message["id"] for phone in phones for message in phone.pull()] == [made["message_id"]]


def test_a_backup_is_of_one_moment_and_an_owner_may_let_all_go_on(
    client, enroll, campaign, ask, look, elsewhere, tmp_path
):
    """Taken while messages are made and given out; restored with the word that nothing left since."""
    phone = enroll()
    number = campaign(300)
    ask(number, "start")
    over = threading.Event()

    def go_on():
        while not over.is_set():
            look()
            for message in phone.pull()[:3]:
                phone.send(message["id"])

    worker = threading.Thread(target=go_on)
    worker.start()
    try:
        until(lambda: phone.on_air)  # or there may be nothing yet
        manifests = [backup.take(tmp_path / "b.zip") for _ in range(2)]
    finally:
        over.set()
        worker.join()
    with elsewhere(tmp_path / "b.zip", send_again=True) as there:
        for name, table in manifests[1].tables.items():
            if name == "phone_watch":  # which the gateway writes by itself
                continue
            extra = 1 if name == "audit_events" else 0
            assert number_of(there, f"SELECT count(*) FROM {name}") == table.rows + extra, name
        waiting = number_of(there, "SELECT count(*) FROM message_queue")
        assert waiting == number_of(there, "SELECT count(*) FROM messages WHERE status = 'pending'") > 0
        figures_are_the_recount(client, there)
        made = number_of(there, "SELECT count(*) FROM messages")
        assert made == number_of(there, "SELECT count(*) FROM campaign_recipients WHERE state = 1")
        look()
        assert number_of(there, "SELECT status FROM campaigns") == "running"
        assert number_of(there, "SELECT count(*) FROM messages WHERE uncertain") == 0


def test_what_is_scheduled_for_later_stays_where_asked_for(client, enroll, elsewhere, tmp_path):
    enroll()
    body = {"message": "Later", "recipient_number": "+998901112233"}
    for at in ({"send_at": LATER}, {}):
        assert client.post("/api/sms", json=body | at).status_code == 201
    backup.take(tmp_path / "b.zip")
    with elsewhere(tmp_path / "b.zip", keep_scheduled=True) as there:
        found = there.execute("SELECT status, uncertain, scheduled_at IS NOT NULL FROM messages ORDER BY id").fetchall()
    assert found == [("pending", False, True), ("failed", True, False)]


def test_what_cannot_be_restored_is_refused_and_changes_nothing(client, ali, elsewhere, sql, tmp_path):
    file = tmp_path / "b.zip"
    backup.take(file)
    with pytest.raises(LocalError, match=r"not empty: .* has rows"):
        restore.restore(file)
    whole = file.read_bytes()
    (tmp_path / "short.zip").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(tmp_path / "newer.zip", "w") as newer:
        for name in archive.namelist():
            data = archive.read(name)
            newer.writestr(name, data.replace(b'"format": 1', b'"format": 2') if name == backup.MANIFEST else data)
    with elsewhere() as there:
        for name, reason in (("short.zip", "not a whole backup"), ("newer.zip", "of a newer smsfleet")):
            with pytest.raises(LocalError, match=reason):
                restore.restore(tmp_path / name)
        # Row by row it is damaged: nothing of it stays.
        with zipfile.ZipFile(file) as archive, zipfile.ZipFile(tmp_path / "odd.zip", "w") as odd:
            for name in archive.namelist():
                odd.writestr(name, b"" if name == "tables/users" else archive.read(name))
        with pytest.raises((LocalError, psycopg.Error)):
            restore.restore(tmp_path / "odd.zip")
        assert number_of(there, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


def test_the_archive_holds_no_more_than_its_owner_may_read(client, tmp_path):
    backup.take(tmp_path / "b.zip")
    assert (tmp_path / "b.zip").stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [tmp_path / "b.zip"]
