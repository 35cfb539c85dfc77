"""How a simulated phone behaves, and misbehaves."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias

from phones.wire import APP_VERSION

Seconds: TypeAlias = float | tuple[float, float] | Callable[[Random], float]
"""A time in seconds: fixed, evenly spread between two bounds, or drawn by a function of one's own."""


def sample(seconds: Seconds, random: Random) -> float:
    """Draw one value."""
    if isinstance(seconds, (int, float)):
        return seconds
    if isinstance(seconds, tuple):
        return random.uniform(*seconds)
    return seconds(random)


def parse_seconds(text: str) -> Seconds:
    """Read `0.3` or `0.1-0.5` from a command line. Raises ValueError on anything else."""
    low, dash, high = text.partition("-")
    value = (float(low), float(high)) if dash else float(low)
    if isinstance(value, tuple) and not 0 <= value[0] <= value[1]:
        raise ValueError(f"the bounds of {text!r} are not in order")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What one phone does. Rates are probabilities from 0 to 1, times are seconds.

    The radio: it sends one SMS at a time, `send_time` each, of which `failure_rate` fail; the delivery report comes
    `delivery_delay` later. `keeps_pace=False` ignores the send interval and limits that the gateway pushes, which
    leaves the pace to the gateway alone.

    The network: of the answers to all calls, `lost_answers` never arrive although the gateway has served the call.
    `duplicates` of the reports are sent a second time and `reorder` are held back, each by a draw of `disorder`.
    The event stream is dropped after each draw of `disconnect_every`.

    The app: its version and its `sims` SIM cards; with `old_android` on an Android before 7, whose dates west of UTC
    are odd. It reports each state alone, as the stock app does, with at most `parallel_reports` calls at once; or in
    arrays, gathered for `report_gather`, one call at once. A trigger starts a pull after `pull_latency`; one that
    comes while a pull is in flight replaces it, as in the app, or is joined to it and pulls once more. `time_factor`
    scales the app's own waits (reconnect, back-off, the 15-minute pull): 0.01 makes five seconds fifty milliseconds.
    `clock_skew` is how far its clock is ahead. After `dies_after` it falls silent for good.
    """

    send_time: Seconds = 0.3
    delivery_delay: Seconds = 1.0
    failure_rate: float = 0.0
    keeps_pace: bool = True
    lost_answers: float = 0.0
    duplicates: float = 0.0
    reorder: float = 0.0
    disorder: Seconds = (0.0, 0.5)
    disconnect_every: Seconds | None = None
    app_version: str = APP_VERSION
    sims: int = 1
    reports: Literal["single", "array"] = "single"
    parallel_reports: int = 4
    report_gather: float = 0.1
    pull_latency: Seconds = 0.02
    triggers: Literal["replace", "join"] = "replace"
    uses_stream: bool = True
    ping_every: float = 0.0
    time_factor: float = 1.0
    clock_skew: float = 0.0
    utc_offset_minutes: int = 300
    old_android: bool = False
    dies_after: Seconds | None = None
