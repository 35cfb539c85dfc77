"""Alert rules and dashboard, with Prometheus' own programs and figures of a real run."""

import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import yaml

from app.local.installation import LOOPBACK, Installation, Shape
from phones.behaviour import Behaviour
from phones.fleet import FleetThread
from tests.acceptance.prometheus import ALERTS, DEPLOY, Prometheus
from tests.support.waiting import until
from tests.support.webhooks_receiver import Receiver

DASHBOARD = json.loads(Path("deploy/grafana/smsfleet.json").read_text())
QUERIES = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
PERSON = {"name": "Ali", "email": "ali@example.com", "password": "secret-1", "password_confirmation": "secret-1"}


@pytest.mark.needs_prometheus
@pytest.mark.parametrize(
    "command", ["check rules rules.yml", "test rules rules.test.yml", "check config --syntax-only prometheus.yml"]
)
def test_promtool_accepts(command: str) -> None:
    done = subprocess.run(["promtool", *command.split()], cwd=DEPLOY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_says_what_to_do_and_is_tested_to_fire_and_not_to() -> None:
    tests = yaml.safe_load((DEPLOY / "rules.test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    tested = Counter((case["alertname"], bool(case["exp_alerts"])) for case in cases)
    assert tested == {(alert["alert"], fires): 1 for alert in ALERTS for fires in (True, False)}
    assert all(alert["annotations"]["summary"] and alert["annotations"]["runbook"] for alert in ALERTS)


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(
        tmp_path / "data",
        shape=Shape(flower=False),
        durable=False,
        output=lambda *_: None,
        port="0",
        webhook_allowed_networks=LOOPBACK,
    ) as running:
        yield running


@pytest.mark.needs_prometheus
@pytest.mark.timeout(240)
def test_every_query_of_the_dashboard_and_the_alerts_finds_figures_of_a_real_run(
    installation: Installation, free_port, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        prometheus = Prometheus(installation.url.removeprefix("http://"), free_port(), tmp_path)
        stack.callback(prometheus.end)
        receiver = stack.enter_context(Receiver())
        client = stack.enter_context(httpx.Client(base_url=f"{installation.url}/api", timeout=30))
        client.headers["Authorization"] = "Bearer " + client.post("/register", json=PERSON).json()["data"]["token"]
        client.put("/webhooks", json={"webhook_url_status": receiver.url("/status")})
        key = client.post("/tokens", json={"name": "Phones", "abilities": ["phone:enroll"]}).json()["data"]
        unreliable = Behaviour(send_time=0.01, delivery_delay=0.1, failure_rate=0.3)
        stack.enter_context(FleetThread(installation.url, key["token"], count=2, behaviour=unreliable))
        deadline = time.monotonic() + 120
        missing = QUERIES
        while missing:
            assert time.monotonic() < deadline, missing
            for number in range(5):
                sent = {"recipient_number": f"+9999300000{number}", "message": "Hello", "device_id": "active"}
                assert client.post("/sms", json=sent).status_code == 201
            missing = [(title, query) for title, query in missing if not prometheus.finds(query)]
        # What alerts look at is there too: not that they fire.
        named = {name for alert in ALERTS for name in re.findall(r"\bsmsfleet_\w+", alert["expr"])}
        until(lambda: [name for name in named if not prometheus.finds(f'{{__name__="{name}"}}')] == [], 30)
