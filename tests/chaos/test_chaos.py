"""Short runs of `make chaos`: one that is always the same, and one that nobody has seen before."""

import socket
import threading
from contextlib import suppress

import pytest

from tests.chaos.faults import FAULTS, plan
from tests.chaos.judging import judge
from tests.chaos.network import Network
from tests.chaos.run import Run, newest_seed, short, tell

SEED = 7


@pytest.mark.timeout(420)
@pytest.mark.parametrize("seed", ["the same", "another"])
def test_nothing_is_lost_and_nothing_goes_out_twice_whatever_breaks(seed):
    number = SEED if seed == "the same" else newest_seed()
    tell(f"make chaos ARGS='--short --seed {number}'")
    run = Run(short(number), tell)
    with run.running():
        run.execute()
        verdict = judge(run)
    wrong = [f"{line.name}: {line.value:g} {line.examples}" for line in verdict.lines if not line.ok]
    assert wrong == [], "\n".join(run.tail)
    value = {line.name: line.value for line in verdict.lines}
    assert value["on air"] > 400
    assert value["received by phones and taken"] > 10


def test_a_seed_is_a_plan_and_a_long_one_has_every_fault():
    blows = plan(1, 60, FAULTS)
    assert blows == plan(1, 60, FAULTS)
    assert blows != plan(2, 60, FAULTS)
    assert {fault for blow in blows for fault in blow.faults} == set(FAULTS)
    assert any(len(blow.faults) == 2 for blow in blows)


def test_a_link_passes_or_resets_or_is_silent():
    def answer(connection):
        with suppress(OSError), connection:  # the other side may be gone
            connection.sendall(connection.recv(100))

    def echo(listener):
        with suppress(OSError):  # it was closed
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener, Network("link") as network:
        threading.Thread(target=echo, args=(listener,), daemon=True).start()
        network["link"].target = listener.getsockname()
        address = ("127.0.0.1", network["link"].port)

        def ask(seconds=5.0):
            with socket.create_connection(address, timeout=seconds) as client:
                client.sendall(b"hello")
                return client.recv(100)

        assert ask() == b"hello"
        network.switch("link", "silent")
        with pytest.raises(TimeoutError):
            ask(0.3)
        network.switch("link", "cut")
        with pytest.raises(ConnectionError):
            ask()
        network.switch("link", "open")
        assert ask() == b"hello"
