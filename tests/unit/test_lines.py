"""How `smsfleet up` prints what its processes log."""

import json

import pytest

from app.local.lines import Lines

EVENT = {
    "event": "webhook URL disabled",
    "level": "warning",
    "logger": "app.webhooks.records",
    "user": 5,
    "timestamp": "2026-11-26T18:09:33.655284Z",
}
AWAY = EVENT | {"event": "the database cannot be reached", "away": "database"}


@pytest.fixture
def printed(capsys):
    """The lines that come of events, each given as (process, event or text)."""

    def print_all(lines: Lines, *given) -> list[str]:
        for name, event in given:
            lines(name, event if isinstance(event, str) else json.dumps(event))
        return capsys.readouterr().out.splitlines()

    return print_all


def test_at_a_terminal_an_event_is_one_short_line(printed) -> None:
    [line] = printed(Lines(terminal=True, colour=False), ("api-1", EVENT))
    assert line[2] == line[5] == ":"
    assert line[9:] == "api-1              warning: webhook URL disabled  user=5"


def test_what_strangers_wrote_is_not_obeyed_by_the_terminal(printed) -> None:
    evil = "x\n12:00:00 api-1  all is well\x1b]0;title\x07\x1b[2J\u202e"
    given = EVENT | {"event": f"webhook {evil}", "url": evil, "exception": f"Traceback\n  File x\nValueError: {evil}"}
    lines = printed(Lines(terminal=True, colour=False), ("api-1", given), ("postgres", f"FATAL:  {evil}"[:60]))
    assert all(line.isprintable() for line in lines)
    # The trace's own line ends are kept: those in its message cannot be told from them.
    assert len([line for line in lines if "webhook x" in line or "FATAL" in line]) == 2
    assert "\\x1b[2J" in lines[0]
    assert "\\n12:00:00" in lines[0]


def test_colours_tell_levels(printed, monkeypatch) -> None:
    [line] = printed(Lines(terminal=True, colour=True), ("api-1", EVENT))
    assert "\033[33mwarning: webhook URL disabled\033[0m" in line
    monkeypatch.setenv("NO_COLOR", "1")
    [line] = printed(Lines(terminal=True), ("api-1", EVENT))
    assert "\033" not in line


def test_elsewhere_lines_are_json_with_the_process(printed) -> None:
    lines = printed(Lines(terminal=False), ("api-1", EVENT), ("postgres", "FATAL:  the database is starting up"))
    assert [json.loads(line) for line in lines] == [
        {"process": "api-1", **EVENT},
        {"process": "postgres", "event": "FATAL:  the database is starting up"},
    ]


def test_an_outage_is_told_by_one_process_for_all(printed) -> None:
    back = EVENT | {"event": "what was away is back", "back": "database"}
    lines = printed(
        Lines(terminal=True, colour=False),
        ("api-1", AWAY),
        ("worker-dispatch-1", AWAY),
        ("api-1", back),
        ("worker-dispatch-1", back),
        ("api-1", AWAY),
    )
    assert ["cannot be reached" in line for line in lines] == [True, False, True]


def test_what_a_server_says_again_and_again_is_printed_once_and_what_we_say_each_time(printed) -> None:
    starting = ("postgres", "FATAL:  the database system is starting up")
    ended = ("smsfleet", "beat ended with status -9; it is started again in 0.5 s")
    lines = printed(
        Lines(terminal=True, colour=False), starting, starting, ended, ended, ("api-1", EVENT), ("api-1", EVENT)
    )
    assert len(lines) == 5


def test_a_fault_of_ours_keeps_its_trace(printed) -> None:
    fault = EVENT | {"level": "error", "exception": "Traceback:\n  line 1\nKeyError: 'x'"}
    lines = printed(Lines(terminal=True, colour=False), ("api-1", fault))
    assert lines[-1] == "KeyError: 'x'"


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '{"event": '])
def test_what_is_no_event_is_printed_as_it_is(printed, text: str) -> None:
    [line] = printed(Lines(terminal=True, colour=False), ("valkey", text))
    assert line.endswith(f"valkey             {text}")
