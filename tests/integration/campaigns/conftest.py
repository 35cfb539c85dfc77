"""Campaigns of Ali's, with recipients written straight to the database."""

import pytest


@pytest.fixture
def campaign(client, sql):
    """Make a campaign with so many recipients."""

    def make(recipients=3, message="Hello", name="Sale", **fields):
        answer = client.post("/api/campaigns", json={"name": name, "message": message, **fields})
        assert answer.status_code == 201, answer.text
        number = answer.json()["data"]["id"]
        add_recipients(sql, number, recipients)
        return number

    return make


def add_recipients(sql, campaign, n):
    sql.execute(
        "INSERT INTO campaign_recipients (campaign_id, place, number)"
        " SELECT %s, place, '+99890' || lpad(place::text, 7, '0') FROM generate_series(1, %s) place",
        (campaign, n),
    )
    sql.execute("UPDATE campaigns SET recipients = recipients + %s WHERE id = %s", (n, campaign))


@pytest.fixture
def ask(client):
    """Ask something of a campaign, and expect it to be done."""

    def post(campaign, verb, status=200, **body):
        answer = client.post(f"/api/campaigns/{campaign}/{verb}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    return post


@pytest.fixture
def show(client):
    def get(campaign):
        return client.get(f"/api/campaigns/{campaign}").json()["data"]

    return get


@pytest.fixture
def look(work, ali):
    """What the workers do for Ali's campaigns: look after them, and route."""
    from app.campaigns import supervising
    from app.messages.dispatch import routing

    def once():
        mails = work(supervising.look, ali.id)
        work(routing.route_waiting, ali.id)
        return mails

    return once


@pytest.fixture
def recount(sql):
    """A campaign's counts from its recipients and messages, without anything that was counted before."""

    def count(campaign):
        rows = sql.execute(
            """
            SELECT CASE WHEN m.id IS NULL THEN 'not_made'
                        WHEN m.status <> 'pending' THEN m.status
                        WHEN q.stage = 0 THEN 'waiting' WHEN q.stage = 3 THEN 'held' ELSE 'given' END,
                   count(*), count(*) FILTER (WHERE m.uncertain)
            FROM campaign_recipients r LEFT JOIN messages m ON m.id = r.message_id
            LEFT JOIN message_queue q ON q.message_id = m.id
            WHERE r.campaign_id = %s AND r.state <> 2 GROUP BY 1
            """,
            (campaign,),
        ).fetchall()
        names = ("not_made", "waiting", "held", "given", "sent", "delivered", "failed", "cancelled")
        counts = dict.fromkeys(names, 0) | {name: n for name, n, _ in rows}
        return counts | {"recipients": sum(counts.values()), "uncertain": sum(uncertain for _, _, uncertain in rows)}

    return count


@pytest.fixture
def counts(show, recount):
    """A campaign's counts, which must be what a recount says."""

    def read(campaign):
        told = show(campaign)["counts"]
        left_out = told.pop("left_out")
        assert told == recount(campaign)
        return {name: n for name, n in told.items() if n and name != "recipients"} | (
            {"left_out": left_out} if left_out else {}
        )

    return read
