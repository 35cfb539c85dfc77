"""The process group of `smsfleet up`: started, kept alive, and ended, whatever happens."""

import http.client
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from app.core.settings import Settings
from app.local import guard
from app.local.account import NAME
from app.local.errors import LocalError
from app.local.exposure import lan_address
from app.local.folder import DataFolder, Runtime, find_running
from app.local.installation import Installation, Shape
from app.local.ports import is_listening, listen
from app.local.servers import EmbeddedPostgres, EmbeddedValkey
from tests.acceptance.running import Up, processes_of
from tests.support.waiting import until

NOBODY = 65534
PERSON = {"name": "Ali", "email": "ali@example.com", "password": "secret-1", "password_confirmation": "secret-1"}


def command(data_dir: Path, *args: str, **settings: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("SMSFLEET_")}
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *args],
        env={"PYTHONPATH": str(Path.cwd()), **env, "SMSFLEET_DATA_DIR": str(data_dir), **settings},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_starts_works_and_ends_without_a_trace(up, tmp_path: Path) -> None:
    first = up()
    url = first.ready()
    assert httpx.get(url + "/health/ready").status_code == 200
    assert stat.S_IMODE(first.data_dir.stat().st_mode) == 0o700
    open_to_others = [path for path in first.data_dir.rglob("*") if path.stat().st_mode & 0o077]
    assert open_to_others == []

    # What may be a log says where secrets are, and tells none.
    password = (first.data_dir / "flower.password").read_text()
    assert password not in first.output
    assert f"user smsfleet, password in {first.data_dir}/flower.password" in first.output
    flower = find_running(first.data_dir).flower_url
    until(lambda: _status(flower, ("smsfleet", password)) == 200)
    assert _status(flower, ("smsfleet", "wrong")) == 401

    # Simulated phones find the gateway wherever it listens.
    token = httpx.post(url + "/api/register", json=PERSON).json()["data"]["token"]
    invited = httpx.post(url + "/api/devices/enrollment", headers={"Authorization": f"Bearer {token}"}).json()["data"]
    words = ["phones", "simulate", "--phones", "1", "--duration", "0", "--token", invited["private_token"]]
    done = command(first.data_dir, *words)
    assert f"1 phones are connected to {url}" in done.stdout, done.stderr

    # As root, only the supervisor and the guards are root's; what an operator publishes is served all the same.
    if os.geteuid() == 0:
        owners = {_owner(pid) for pid, line in processes_of(first.data_dir).items() if not _is_of_root(line)}
        assert owners == {pwd.getpwnam(NAME).pw_uid}
    with zipfile.ZipFile(tmp_path / "app.apk", "w") as apk:
        apk.writestr("AndroidManifest.xml", "")
    words = ["release", "publish", str(tmp_path / "app.apk"), "--version-name", "1", "--version-code", "1"]
    assert command(first.data_dir, *words).returncode == 0
    assert httpx.get(url + "/api/app/download/1").content == (tmp_path / "app.apk").read_bytes()

    # The workers need a moment more than the HTTP side.
    until(lambda: command(first.data_dir, "doctor").returncode == 0)
    assert first.end() == 0, first.output
    assert processes_of(first.data_dir) == {}
    assert command(first.data_dir, "doctor").returncode == 1

    again = up()
    again.ready()
    assert password not in again.output
    assert again.end(signal.SIGINT) == 0


def _status(url: str, auth: tuple[str, str]) -> int:
    try:
        return httpx.get(url, auth=auth).status_code
    except httpx.TransportError:
        return 0


def test_an_ordinary_user_runs_it(up, tmp_path: Path) -> None:
    """As root: by giving up root's rights, from a copy of the program that the user can read."""
    if os.geteuid() != 0:
        url = up().ready()
        assert httpx.get(url + "/health/ready").status_code == 200
        return
    with tempfile.TemporaryDirectory(prefix="smsfleet-user-") as folder:
        python, path = _readable_copy(Path(folder))
        data_dir = Path(folder) / "home" / "data"
        data_dir.parent.mkdir()
        os.chown(data_dir.parent, NOBODY, NOBODY)
        running = up("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", python,
                     data_dir=data_dir, PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1",
                     LD_LIBRARY_PATH=f"{folder}/python/lib", HOME=folder)  # fmt: skip
        url = running.ready()
        assert httpx.get(url + "/health/ready").status_code == 200
        assert {_owner(pid) for pid in processes_of(data_dir)} == {NOBODY}
        assert running.end() == 0
        assert processes_of(data_dir) == {}


def _is_of_root(line: str) -> bool:
    return guard.__file__ in line or "app.cli up" in line


def _owner(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def _readable_copy(folder: Path) -> tuple[str, str]:
    """An interpreter and a module path that every user can read."""
    folder.chmod(0o755)
    base = Path(sys.base_prefix)
    python = Path("bin") / f"python{sys.version_info.major}.{sys.version_info.minor}"
    as_user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "/bin/sh", "-c"]
    if subprocess.run([*as_user, f"{base / python} -c 1"], check=False, stderr=subprocess.DEVNULL).returncode:
        unneeded = shutil.ignore_patterns("test", "site-packages", "__pycache__", "*.a", "share")
        shutil.copytree(base, folder / "python", ignore=unneeded, symlinks=True)
        base = folder / "python"
    packages = Path(httpx.__file__).parent.parent
    dev = shutil.ignore_patterns("__pycache__", "mypy", "ruff*", "hypothesis", "schemathesis", "pip", "__editable__*")
    shutil.copytree(packages, folder / "packages", ignore=dev, symlinks=True)
    for name in ("app", "workers"):
        shutil.copytree(name, folder / "code" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    return str(base / python), f"{folder / 'code'}:{folder / 'packages'}"


def test_no_folder_is_opened_to_others(up, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    running = up(data_dir=private / "data")
    running.ready()
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path, private, private / "data")}
    assert all(mode & 0o077 == 0 for mode in modes.values()), modes


def test_children_end_when_the_supervisor_is_killed(up) -> None:
    first = up()
    first.ready()
    first.crash()
    until(lambda: processes_of(first.data_dir) == {}, 60)
    again = up()
    again.ready()
    assert "left over" not in again.output


def test_the_next_start_ends_what_a_crash_left(up) -> None:
    """Supervisor and guards die at once: the servers stay, and the next start does not trip over them."""
    first = up()
    first.ready()
    for pid, line in processes_of(first.data_dir).items():
        if guard.__file__ in line:
            os.kill(pid, signal.SIGKILL)
    first.crash()
    left = {process.name: process for process in Runtime.read(first.data_dir).processes if process.runs}
    assert {"postgres", "valkey"} <= left.keys()

    again = up()
    url = again.ready()
    assert "ended postgres, left over from an earlier run" in again.output
    assert not any(process.runs for process in left.values())
    assert httpx.get(url + "/health/ready").status_code == 200


def test_it_starts_again_after_its_data_folder_was_deleted(up) -> None:
    """As root the database lies elsewhere and is still there."""
    first = up()
    first.ready()
    assert first.end() == 0
    shutil.rmtree(first.data_dir)
    assert httpx.get(up().ready() + "/health/ready").status_code == 200


def test_a_folder_has_one_supervisor(up) -> None:
    first = up()
    first.ready()
    second = Up(first.data_dir)
    assert second.popen.wait(60) == 1
    assert "already runs from" in second.output
    assert httpx.get(find_running(first.data_dir).url + "/health/ready").status_code == 200


def test_a_port_that_was_chosen_and_is_taken_is_named(up) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = up(SMSFLEET_PORT=str(port))
        assert running.popen.wait(60) == 1
        assert f"port {port} on 127.0.0.1 is taken" in running.output
        assert "SMSFLEET_PORT" in running.output
        assert processes_of(running.data_dir) == {}


def test_a_taken_port_that_nobody_chose_is_replaced() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with listen("127.0.0.1", port, chosen=False, setting="SMSFLEET_PORT") as listener:
            assert listener.getsockname()[1] not in {0, port}
        with pytest.raises(LocalError, match=f"port {port} "):
            listen("127.0.0.1", port, chosen=True, setting="SMSFLEET_PORT")


def test_a_default_port_that_was_replaced_stays(tmp_path: Path) -> None:
    lines: list[str] = []

    def address() -> str:
        installation = Installation(tmp_path, output=lambda _, line: lines.append(line), shape=Shape(flower=False))
        installation.settings = default
        installation._folder = DataFolder(tmp_path)
        installation._open_ports()
        installation._listeners["api-1"].close()
        installation._folder.close()
        return installation.url

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        default = Settings.model_construct(_fields_set=set(), port=port)
        first = address()
    (line,) = lines
    assert line.startswith(f"port {port} is taken: {first.rpartition(':')[2]} is used instead, at the next start too")
    assert address() == first, "the default is free again, but phones know the other one"
    assert lines == [line]


def test_a_set_up_that_fails_half_way_leaves_nothing(up) -> None:
    running = up(SMSFLEET_DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert running.popen.wait(60) == 1
    assert "migrate failed" in running.output
    assert "the database cannot be reached: " in running.output
    assert "Traceback" not in running.output
    assert processes_of(running.data_dir) == {}


@pytest.mark.parametrize("step", ["initial-password", "postgres", "migrate", "api-1"])
def test_a_start_that_is_called_off_leaves_nothing(up, step: str) -> None:
    running = up()
    marks = {"initial-password": "initdb", "postgres": "bin/postgres ", "migrate": "migrate: ", "api-1": "api-1: "}
    until(lambda: any(marks[step] in line for line in processes_of(running.data_dir).values()))
    assert running.end() == 0, running.output
    assert processes_of(running.data_dir) == {}
    if step == "initial-password":  # what was half made is made anew
        up().ready()


def test_what_dies_is_started_again(tmp_path: Path) -> None:
    lines: list[str] = []
    with Installation(
        tmp_path / "data",
        shape=Shape(api=2, dispatch=2, flower=False),
        durable=False,
        output=lambda name, line: lines.append(f"{name}| {line}"),
        port="0",
    ) as installation:
        for name in ("api-1", "worker-dispatch-2", "beat", "valkey", "postgres", "forkserver"):
            installation.wait_restarted(name, installation.kill(name))
            assert f"{name} ended with status -9" in "\n".join(lines)
        stopped = {name: installation.processes[name] for name in ("valkey", "postgres", "forkserver")}
        for child in stopped.values():
            child.send(signal.SIGSTOP)
        for name, child in stopped.items():
            installation.wait_restarted(name, child.pid)
        until(lambda: _status(installation.url + "/health/ready", ("", "")) == 200)

        installation.hold("valkey")
        assert installation.processes["valkey"].status is not None
        installation.let_go("valkey")
        assert installation.processes["valkey"].status is None
        data_dir = tmp_path / "data"
    assert not data_dir.exists()
    assert processes_of(data_dir) == {}


def test_processes_of_the_api_share_connections_and_take_over_those_of_one_that_is_down(tmp_path: Path) -> None:
    lines: list[str] = []
    with (
        Installation(
            tmp_path / "data",
            shape=Shape(api=2, flower=False),
            durable=False,
            output=lambda _, line: lines.append(line),
            port="0",
        ) as installation,
        ExitStack() as opened,
    ):
        kept = [opened.enter_context(_kept_connection(installation.url)) for _ in range(64)]
        assert all(map(_answers, kept))
        installation.hold("api-1")
        assert 0 < sum(map(_answers, kept)) < len(kept), "one process had all of them"
        assert all(_answers_new_connections(installation.url))
        installation.let_go("api-1")
        until(lambda: is_listening(installation._listeners["api-1"]))
        installation.hold("api-2")
        assert all(_answers_new_connections(installation.url))
        # The last that took connections dies while the other is only starting: they wait.
        installation.let_go("api-2")
        installation.kill("api-1")
        until(lambda: any("api-1 ended with status -9" in line for line in lines))
        assert all(_answers_new_connections(installation.url))


def _answers_new_connections(url: str) -> Iterator[bool]:
    for _ in range(64):
        with _kept_connection(url) as connection:
            yield _answers(connection)


def _kept_connection(url: str) -> closing[http.client.HTTPConnection]:
    """A connection that is not opened again once it is closed."""
    parts = httpx.URL(url)
    connection = http.client.HTTPConnection(parts.host, parts.port, timeout=20)
    connection.connect()
    connection.auto_open = 0
    return closing(connection)


def _answers(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.request("GET", "/health/live")
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    answer.read()
    return answer.status == http.HTTPStatus.OK


def test_what_cannot_be_started_again_is_tried_again(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("app.local.installation.MAX_PAUSE", 0.5)
    lines: list[str] = []
    with Installation(
        tmp_path / "data",
        shape=Shape(flower=False),
        durable=False,
        output=lambda name, line: lines.append(f"{name}| {line}"),
        port="0",
    ) as installation:
        threading.stack_size(1 << 50)  # more than there is: no thread can be started, as on a machine at its limit
        try:
            pid = installation.kill("beat")
            until(lambda: sum("trouble in starting beat again: can't start" in line for line in lines) > 1)
            with installation._lock:  # nothing is being started at this moment
                names = {line.partition(":")[0] for line in processes_of(tmp_path / "data").values()}
                assert "api-1" in names
                assert "beat" not in names
        finally:
            threading.stack_size(0)
        installation.wait_restarted("beat", pid)


def test_servers_of_the_operator_are_used(database, tmp_path: Path) -> None:
    with Installation(
        tmp_path / "data",
        shape=Shape(flower=False),
        durable=False,
        port="0",
        database_url=database.postgres.url,
        redis_url=database.valkey.url,
    ) as installation:
        assert not {"postgres", "valkey"} & installation.processes.keys()
        assert "SMSFLEET_WEBHOOK_ALLOWED_NETWORKS" not in installation.environment


def test_the_doctor_says_what_is_down(tmp_path: Path) -> None:
    broker, database = "redis://127.0.0.1:1/0", "postgresql://nobody@127.0.0.1:1/0"
    done = command(tmp_path, "doctor", SMSFLEET_DATABASE_URL=database, SMSFLEET_REDIS_URL=broker)
    assert done.returncode == 2
    assert [line.partition(":")[0] for line in done.stdout.splitlines() if line.startswith("BAD")] == [
        "BAD  database",
        "BAD  broker",
    ]
    assert "Traceback" not in done.stderr


def test_an_address_of_another_machine_is_named(tmp_path: Path) -> None:
    done = command(tmp_path, "up", SMSFLEET_HOST="192.0.2.1")
    assert done.returncode == 1
    assert done.stderr == "SMSFLEET_HOST: 192.0.2.1 is not an address of this machine\n"


@pytest.mark.parametrize("name", ["up", "demo", "migrate", "doctor"])
def test_a_setting_that_is_wrong_is_named(tmp_path: Path, name: str) -> None:
    done = command(tmp_path, name, SMSFLEET_API_PROCESSES="abc", SMSFLEET_FREE_FEATURES="api,fax")
    assert done.returncode == 1
    if name != "demo":  # which sets this one itself
        assert "SMSFLEET_FREE_FEATURES=fax: Input should be 'api', 'webhooks' or 'bulk'" in done.stderr
    assert "SMSFLEET_API_PROCESSES=abc: Input should be a valid integer" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = command(tmp_path / "file" / "data", "up")
    assert done.returncode == 1
    assert (
        done.stderr == f"SMSFLEET_DATA_DIR: {tmp_path}/file/data cannot be used as the data folder (Not a directory)\n"
    )


@pytest.mark.parametrize("text", ["", '{"supervisor": {"na', "[]", "{}", '{"supervisor": {"new": 1}}'])
def test_a_record_that_cannot_be_made_out_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "runtime.json").write_text(text)
    assert find_running(tmp_path) is None
    folder = DataFolder(tmp_path)
    assert folder.end_left_overs() == []
    folder.close()


@pytest.mark.parametrize("words", ["migrate", "doctor", "phones simulate --token x"])
def test_a_command_with_nothing_running_says_so(tmp_path: Path, words: str) -> None:
    done = command(tmp_path, *words.split())
    assert done.returncode == 1
    assert "smsfleet is not running" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_are_read_from_the_working_folder_and_unknown_ones_told(up, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "POSTGRES_PASSWORD=none of ours\nSMSFLEET_REGISTRATION=closed\nSMSFLEET_REGISTRATON=open\n"
        "SMSFLEET_LOG_LEVEL='error'  # quiet\nSMSFLEET_PRICE_CURRENCY=EUR\n"
    )
    running = up(cwd=tmp_path, SMSFLEET_PRICE_CURRENCY="UZS")
    url = running.ready()
    told = [line for line in running.lines if "is not a setting" in line]
    assert told == ["SMSFLEET_REGISTRATON is not a setting of smsfleet; did you mean SMSFLEET_REGISTRATION?"]
    assert httpx.post(url + "/api/register", json=PERSON).status_code == 403
    settings = Runtime.read(running.data_dir).settings
    assert settings["SMSFLEET_PRICE_CURRENCY"] == "UZS", "the environment goes before the file"
    assert settings["SMSFLEET_LOG_LEVEL"] == "error"
    assert "POSTGRES_PASSWORD" not in settings


def _a_stranger_reaches_nothing_here(url: str, headers: dict[str, str]) -> None:
    """Neither an account, nor by a webhook what this machine answers itself, whatever it is called."""
    again = httpx.post(url + "/api/register", json=PERSON | {"email": "second@example.com"})
    assert (again.status_code, again.json()["message"]) == (403, "Registration is closed")
    for host in ("127.0.0.1", "localhost", "[::1]", lan_address(), "2130706433"):
        hook = {"webhook_url_status": f"http://{host}:{httpx.URL(url).port}/"}
        assert httpx.put(url + "/api/webhooks", json=hook, headers=headers).status_code == 422, host
    with socket.socket() as listener:
        listener.bind(("", 0))
        listener.listen()
        # A name that is this machine's own can be told from others when it is called.
        hook = {"webhook_url_status": f"http://{socket.gethostname()}:{listener.getsockname()[1]}/"}
        if httpx.put(url + "/api/webhooks", json=hook, headers=headers).status_code == 200:
            tried = httpx.post(url + "/api/webhooks/test", headers=headers, timeout=30).json()["data"]
            assert (tried["delivered"], tried["status"], tried["answer"]) == (False, None, None)
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_where_it_is_published_others_reach_nothing_here(up) -> None:
    running = up(SMSFLEET_PUBLIC_URL="https://sms.example.com", SMSFLEET_HOST="0.0.0.0")
    url = running.ready()
    assert any(line.startswith("Registration is open until the first account exists") for line in running.lines)
    first = httpx.post(url + "/api/register", json=PERSON)
    _a_stranger_reaches_nothing_here(url, {"Authorization": f"Bearer {first.json()['data']['token']}"})
    # The API itself says so too, once, since under compose nothing else does.
    assert running.output.count("others can reach this gateway") == 1


def test_a_phone_in_the_network_is_paired(up) -> None:
    running = up(command="up --lan", SMSFLEET_PORT="0", SMSFLEET_FLOWER_PORT="0")
    url = running.ready()
    public = f"http://{lan_address()}:{httpx.URL(url).port}"
    assert f"Phones reach it at {public}; `smsfleet phones pair` pairs one" in running.lines
    assert any(line.startswith("Registration is open until the first account exists") for line in running.lines)
    assert any(line.startswith("Webhooks go to public addresses only") for line in running.lines)
    assert "SMSFLEET_WEBHOOK_ALLOWED_NETWORKS" not in Runtime.read(running.data_dir).settings

    first = httpx.post(public + "/api/register", json=PERSON)
    assert first.status_code == 201
    _a_stranger_reaches_nothing_here(public, {"Authorization": f"Bearer {first.json()['data']['token']}"})
    found = command(running.data_dir, "doctor").stdout
    assert f"ok   address for phones: {public}\n" in found
    assert "ok   registration: open until the first account exists" in found

    pairing = Up(running.data_dir, command="phones pair")
    try:
        until(lambda: "Waiting for the phone" in pairing.output)
        assert f"API URL:        {public}/api/mobile/v1" in pairing.lines
        assert "Phones cannot reach" not in pairing.output
        (token,) = [line.split()[-1] for line in pairing.lines if line.startswith("Private token:")]
        words = ["phones", "simulate", "--phones", "1", "--duration", "5", "--token", token]
        assert command(running.data_dir, *words).returncode == 0
        assert pairing.popen.wait(60) == 0
        assert "is connected, as device " in pairing.output
    finally:
        pairing.popen.kill()

    given_up = command(running.data_dir, "phones", "pair", PERSON["email"], "--minutes", "0")
    assert given_up.returncode == 1
    assert "No phone has connected" in given_up.stderr
    unknown = command(running.data_dir, "phones", "pair", "nobody@example.com")
    assert (unknown.returncode, unknown.stderr) == (1, "there is no user nobody@example.com\n")


@pytest.mark.timeout(300)
def test_simulated_phones_receive_come_back_and_are_removed(up) -> None:
    running = up()
    url = running.ready()
    with httpx.Client(base_url=url + "/api", timeout=30) as client, ExitStack() as processes:

        def simulate(options: str = "") -> Up:
            simulated = Up(running.data_dir, command=f"phones simulate {options}")
            processes.callback(simulated.popen.wait)
            processes.callback(simulated.popen.kill)
            until(lambda: "2 phones are connected" in simulated.output)
            return simulated

        def receive(text: str, *options: str) -> None:
            done = command(running.data_dir, "phones", "receive", text, *options)
            assert (done.returncode, done.stderr) == (0, "")

        def devices() -> set[str]:
            return {device["device_id"] for device in client.get("/devices").json()["data"]}

        client.headers["Authorization"] = "Bearer " + client.post("/register", json=PERSON).json()["data"]["token"]
        token = client.post("/devices/enrollment").json()["data"]["private_token"]
        first = simulate(f"--phones 2 --token {token} --app-version 1.75.0")
        enrolled = devices()
        receive("Code 1", "--from", "+12025550148", "--phone", "1")
        first.popen.kill()
        first.popen.wait()

        again = simulate()
        assert devices() == enrolled, "no new ones"
        receive("Code 2", "--from", "Bank")
        inbox = client.get("/sms/inbox").json()["data"]["data"]
        received = sorted((message["sender_number"], message["message"]) for message in inbox)
        assert received == [("+12025550148", "Code 1"), ("Bank", "Code 2")]

        removed = command(running.data_dir, "phones", "remove")
        assert (removed.returncode, removed.stdout) == (0, "2 simulated phones are removed\n")
        assert again.popen.wait(60) == 0
        assert devices() == set()
        assert client.get("/tokens").json()["data"] == [], "the private token ended with them"


@pytest.mark.parametrize(
    ("settings", "is_reached"),
    [
        ({}, True),
        ({"host": "0.0.0.0"}, False),
        ({"public_url": "https://sms.example.com"}, False),
        ({"trusted_proxies": "127.0.0.1"}, False),
        ({"host": "0.0.0.0", "webhook_allowed_networks": "127.0.0.0/8"}, True),
    ],
)
def test_webhooks_reach_loopback_only_where_nobody_else_reaches_the_gateway(
    tmp_path: Path, settings, is_reached
) -> None:
    installation = Installation(tmp_path, durable=False, shape=Shape(flower=False), port="0", **settings)
    with EmbeddedPostgres(tmp_path, durable=False) as postgres, EmbeddedValkey(tmp_path, durable=False) as valkey:
        installation._servers = {"postgres": postgres, "valkey": valkey}
        assert ("SMSFLEET_WEBHOOK_ALLOWED_NETWORKS" in installation.environment) == is_reached
