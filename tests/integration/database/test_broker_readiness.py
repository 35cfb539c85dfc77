"""A broker that answers and refuses writes is no broker."""

import pytest
import redis

from app.core.settings import get_settings
from app.local import doctor


@pytest.fixture(params=["full", "replica"])
def refusing(database, request):
    """Valkey at the limit of its memory, and as a replica of a primary that is gone."""
    with redis.Redis.from_url(database.valkey.url) as broker:
        if request.param == "full":
            broker.config_set("maxmemory", "1")
        else:
            broker.replicaof("127.0.0.1", "1")
        yield
        broker.config_set("maxmemory", "0")
        broker.replicaof("NO", "ONE")


def test_ready_asks_for_a_write(client, phone, refusing):
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["status"], answer.json()["broker"]) == (200, "degraded", "down")
    sent = client.post("/api/sms", json={"recipient_number": "+998901112233", "message": "Hello"})
    assert sent.status_code == 201, "the row is the job"


def test_doctor_asks_for_a_write(refusing):
    [found] = [finding for finding in doctor.examine(get_settings(), None) if finding.what == "broker"]
    assert not found.good


def test_ready_leaves_nothing_behind(client, database):
    assert client.get("/health/ready").json()["broker"] == "up"
    with redis.Redis.from_url(database.valkey.url) as broker:
        assert all(broker.pttl(key) > 0 for key in broker.keys("health*"))
