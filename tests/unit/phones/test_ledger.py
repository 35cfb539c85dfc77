"""The ledger's questions, and its file."""

from pathlib import Path

from phones.ledger import Ledger, OnAir


def entry(phone: str, message_id: str, number: str = "+1", text: str = "x", at: float = 0.0) -> OnAir:
    return OnAir(phone, message_id, number, text, at, 1000.0 + at)


def ledger_of(*entries: OnAir) -> Ledger:
    ledger = Ledger()
    for one in entries:
        ledger.append(one)
    return ledger


def test_counts_and_missing() -> None:
    ledger = ledger_of(entry("a", "1"), entry("a", "2"), entry("b", "3"))
    assert len(ledger) == 3
    assert ledger.counts() == {"a": 2, "b": 1}
    assert ledger.missing({"1", "4"}) == {"4"}


def test_twice_is_by_message_and_number() -> None:
    ledger = ledger_of(entry("a", "1", "+1"), entry("a", "1", "+2"), entry("b", "1", "+2"))
    assert set(ledger.sent_twice()) == {"1"}
    assert [one.phone for one in ledger.sent_twice()["1"]] == ["a", "b"]


def test_same_text_to_the_same_number_under_two_ids() -> None:
    ledger = ledger_of(entry("a", "1", "+1", "hi"), entry("b", "2", "+1", "hi"), entry("b", "3", "+1", "ho"))
    assert not ledger.sent_twice()
    assert list(ledger.same_text_twice()) == [("+1", "hi")]


def test_gaps_are_within_one_phone() -> None:
    ledger = ledger_of(entry("a", "1", at=0), entry("b", "2", at=1), entry("a", "3", at=5), entry("a", "4", at=8))
    assert [gap.seconds for gap in ledger.gaps()] == [5, 3]
    assert [gap.later.message_id for gap in ledger.faster_than(4)] == ["4"]


def test_before_its_slot() -> None:
    ledger = ledger_of(entry("a", "1", at=0), entry("a", "2", at=2))
    assert [one.message_id for one in ledger.before({"1": 1001.0, "2": 1001.0})] == ["1"]


def test_rate_between_first_and_last() -> None:
    assert ledger_of().rate() == 0
    assert ledger_of(entry("a", "1", at=3)).rate() == 0
    assert ledger_of(*(entry("a", str(number), at=number / 10) for number in range(11))).rate() == 10


def test_file_outlives_the_process_and_a_torn_last_line(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    ledger = Ledger(file)
    ledger.append(entry("a", "1", text="Salom, дунё"))
    assert len(Ledger.read(file)) == 1, "written at once, not when closed"
    ledger.append(entry("a", "2"))
    ledger.close()
    with file.open("ab") as torn:
        torn.write(b'["a","3","+1","x"')
    assert list(Ledger.read(file)) == list(ledger)
