"""What simulated phones keep on disk."""

import stat
import time
from pathlib import Path

import pytest

from phones.memory import FolderError, Memory
from phones.wire import PulledMessage, State

FILE = "phones.jsonl"


def pulled(message_id: str) -> PulledMessage:
    return PulledMessage(message_id, ["+15551234567"], "Hello")


def test_phones_and_unfinished_messages_are_recalled(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    memory = Memory(folder)
    memory.belong_to("http://127.0.0.1:8000")
    memory.enroll("one", "dev1", "secret")
    now = time.time()
    waiting = ((State.PENDING, now),)
    sent = (*waiting, (State.PROCESSED, now), (State.SENT, now))
    delivered = (*sent, (State.DELIVERED, now))
    for name in ("waiting", "sent", "unreported", "finished"):
        memory.accept("one", pulled(name), waiting)
    memory.step("one", "sent", sent, None)
    memory.step("one", "unreported", delivered, None)
    memory.step("one", "finished", delivered, None)
    memory.mark_reported("one", "sent", 3)
    memory.mark_reported("one", "unreported", 3)
    memory.mark_reported("one", "finished", 4)
    memory.mark_reported("one", "finished", 2)
    memory.mark_reported("one", "never had", 1)
    memory.close()

    again = Memory(folder)
    assert (again.server, again.phones["one"].device_id) == ("http://127.0.0.1:8000", "dev1")
    kept = {each.pulled.id: (each.history[-1][0], each.told) for each in again.recall("one")}
    assert kept == {"waiting": (State.PENDING, 0), "sent": (State.SENT, 3), "unreported": (State.DELIVERED, 3)}
    again.close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600


def test_a_line_that_was_cut_off_is_left_out_and_an_unreadable_one_named(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.enroll("one", "dev1", "secret")
    memory.close()
    file = tmp_path / FILE
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"type":"phone","name":"tw')
    memory = Memory(tmp_path)
    assert list(memory.phones) == ["one"]
    memory.close()
    assert file.read_bytes() == whole
    file.write_bytes(whole + b"{}\n")
    with pytest.raises(FolderError, match=r"line 3 of .* cannot be read"):
        Memory(tmp_path)


def test_one_process_holds_a_folder(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    with pytest.raises(FolderError, match="already simulated"):
        Memory(tmp_path)
    memory.enroll("one", "dev1", "secret")
    memory.close()
    memory = Memory(tmp_path, wait=1)
    assert list(memory.phones) == ["one"]
    memory.close()


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match="cannot be used: Not a directory"):
        Memory(tmp_path / "file" / "phones")


def test_without_a_folder_nothing_is_kept() -> None:
    memory = Memory()
    memory.enroll("one", "dev1", "secret")
    memory.accept("one", pulled("m"), ((State.PENDING, 0.0),))
    assert (memory.phones, memory.recall("one")) == ({}, [])
    memory.close()
