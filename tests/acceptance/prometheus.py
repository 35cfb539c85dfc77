"""Prometheus itself, and the alert rules that are given to it."""

import subprocess
from pathlib import Path

import httpx
import yaml

DEPLOY = Path("deploy/prometheus")
ALERTS = yaml.safe_load((DEPLOY / "rules.yml").read_text())["groups"][0]["rules"]


class Prometheus:
    """A real one, that scrapes every second, and patiently too: while the database is away figures take longer."""

    def __init__(self, target: str, port: int, folder: Path, token: str = "") -> None:
        job: dict[str, object] = {"job_name": "smsfleet", "static_configs": [{"targets": [target]}]}
        if token:
            job["authorization"] = {"credentials": token}
        patient = {**job, "job_name": "smsfleet-patient", "scrape_interval": "8s", "scrape_timeout": "8s"}
        config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [job, patient]}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)
        command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        self._popen = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def end(self) -> None:
        self._popen.terminate()
        self._popen.wait(60)
        self._client.close()

    def finds(self, expression: str) -> bool:
        query = expression.replace("$__rate_interval", "30s")
        try:
            answer = self._client.get("/api/v1/query", params={"query": query}).json()
        except httpx.TransportError:
            return False
        assert answer["status"] == "success", answer
        return bool(answer["data"]["result"])
