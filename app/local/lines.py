"""The log of `smsfleet up`: at a terminal a short line for each event, else JSON as its processes write it."""

import json
import os
import sys
import threading
import time
from datetime import datetime
from typing import Any

from app.core.printable import printable

AGAIN_SECONDS = 60.0

_LEVELS = {"warning": "\033[33m", "error": "\033[31m", "critical": "\033[31m"}
_DIM, _BOLD, _PLAIN = "\033[2m", "\033[1m", "\033[0m"
_MAX_VALUE = 160
_NOT_SHOWN = {"event", "level", "logger", "timestamp", "exception", "away", "back", "task_id"}


class Lines:
    """Prints lines of processes, from any thread."""

    def __init__(self, *, terminal: bool | None = None, colour: bool | None = None) -> None:
        self._terminal = sys.stdout.isatty() if terminal is None else terminal
        self._colour = (self._terminal and "NO_COLOR" not in os.environ) if colour is None else colour
        self._lock = threading.Lock()
        self._printed: dict[tuple[str, str], float] = {}

    def __call__(self, name: str, line: str) -> None:
        """One line of a process."""
        if not line.strip():
            return
        event = _parsed(line)
        with self._lock:
            if self._terminal and self._was_just_said(name, event):
                return
            self._print(self._short(name, event) if self._terminal else json.dumps({"process": name, **event}))

    def _was_just_said(self, name: str, event: dict[str, Any]) -> bool:
        """Whether another process, or the server itself, has said the same within the minute."""
        if name == "smsfleet":
            return False
        if part := event.get("back"):
            return self._printed.pop(("away", str(part)), None) is None
        key = ("away", str(event["away"])) if "away" in event else (name, str(event["event"]))
        if "away" not in event and "level" in event:
            return False
        now = time.monotonic()
        recently = now - self._printed.get(key, -AGAIN_SECONDS) < AGAIN_SECONDS
        if not recently:
            self._printed = {kept: at for kept, at in self._printed.items() if now - at < AGAIN_SECONDS}
            self._printed[key] = now
        return recently

    def _short(self, name: str, event: dict[str, Any]) -> str:
        level = str(event.get("level", "info"))
        values = " ".join(f"{key}={printable(_value(value))}" for key, value in event.items() if key not in _NOT_SHOWN)
        line = f"{self._in(_DIM, _time(event))} {self._in(_BOLD, f'{name:<18}')} "
        mark = f"{level}: " if level in _LEVELS else ""
        line += self._in(_LEVELS.get(level, ""), mark + printable(str(event["event"])))
        if values:
            line += "  " + self._in(_DIM, values)
        if trace := event.get("exception"):  # of a fault of ours: what repairs itself has none
            line += "\n" + self._in(_DIM, "\n".join(map(printable, str(trace).split("\n"))))
        return line

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._colour and colour else text

    @staticmethod
    def _print(text: str) -> None:
        try:
            print(text, flush=True)  # noqa: T201 - the log of `smsfleet up`
        except BrokenPipeError:
            # Whoever read our output is gone; the processes must not hang for it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        except OSError:
            pass  # no room on the disk: the line is lost, not the thread that had it to say


def _parsed(line: str) -> dict[str, Any]:
    """The event of a line; one that is no JSON is an event of its own."""
    if line.startswith("{"):
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if isinstance(found, dict) and "event" in found:
            return found
    return {"event": line}


def _time(event: dict[str, Any]) -> str:
    try:
        moment = datetime.fromisoformat(str(event["timestamp"]))
    except (KeyError, ValueError):
        moment = datetime.now().astimezone()
    return f"{moment.astimezone():%H:%M:%S}"


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 1] + "…"
