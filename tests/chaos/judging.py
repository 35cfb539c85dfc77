"""What a run comes to, judged from outside: by what users were answered, phones put on air, and receivers heard."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from tests.chaos.run import Event, Run
from tests.chaos.users import User

LEFT = {"sent", "delivered"}
FINAL = {"delivered", "failed"}
WINDOW = 5  # seconds over which the worst throughput is taken
BACK_WITHIN = 30.0
IN_HAND = 15.0  # a phone that was given a message before may send it for so long
CLOCK = 0.05


class Line(NamedTuple):
    """A figure; `wanted` is what it has to be, None where it only tells something. `examples` are of what is wrong."""

    name: str
    value: float
    wanted: float | None = None
    examples: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.wanted is None or self.value == self.wanted


class Recovered(NamedTuple):
    """A blow, and the seconds from its end until a single send that came after it was on air; None: never seen.

    Where another blow came before that, they count from its end.
    """

    event: Event
    seconds: float | None
    pause: float  # the longest without a single send on air, since it began


@dataclass
class Verdict:
    title: str
    seed: int
    seconds: float
    lines: list[Line] = field(default_factory=list)
    recovered: list[Recovered] = field(default_factory=list)
    on_air: list[int] = field(default_factory=list)  # SMS in each second
    accepted: list[int] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(line.ok for line in self.lines)

    @property
    def summary(self) -> str:
        value = {line.name: f"{line.value:g}" for line in self.lines}
        return (
            f"seed {self.seed}: accepted {value['accepted']}, lost {value['lost']}, on air twice"
            f" {value['on air twice']}, uncertain {value['uncertain, each marked']}, back within"
            f" {value['longest recovery, seconds']} s of each of {len(self.recovered)} blows"
        )


@dataclass
class _Seen:
    """All that was seen of one account."""

    user: User
    rows: dict[str, dict[str, Any]]
    on_air: Counter[str]
    received: list[dict[str, Any]]
    gone: set[int]

    @property
    def of_campaigns(self) -> set[str]:
        return {number for campaign in self.user.campaigns for number in campaign.numbers}


def judge(run: Run) -> Verdict:
    """Wait for what receivers have still to hear, and compare everything with everything."""
    seen = [_look(run, user) for user in run.users]
    run.wait_told(lambda: _untold(run, seen))
    verdict = Verdict(run.title, run.options.seed, round(run.seconds, 1))
    verdict.lines += _of_messages(run, seen)
    verdict.lines += _of_campaigns(run, seen)
    verdict.lines += _of_webhooks(run, seen)
    verdict.lines += _of_figures(run, seen)
    _of_time(run, verdict)
    return verdict


def _look(run: Run, user: User) -> _Seen:
    ledger = run.fleets[user.index].ledger
    return _Seen(
        user,
        {item["message_id"]: item for item in user.messages("outbound")},
        Counter(base_of(entry.message_id) for entry in ledger),
        user.messages("inbound"),
        run.gone(user),
    )


def base_of(name: str) -> str:
    """The message that a phone knows by this name: a further try has a number behind the message's own."""
    plain = name.partition(".")[0].replace("-", "")
    return f"{plain[:8]}-{plain[8:12]}-{plain[12:16]}-{plain[16:20]}-{plain[20:]}"


def _zero(name: str, wrong: Iterable[object]) -> Line:
    found = [str(item) for item in wrong]
    return Line(name, len(found), 0, tuple(found[:5]))


def _of_messages(run: Run, seen: list[_Seen]) -> list[Line]:
    every = [(one, name, row) for one in seen for name, row in one.rows.items()]
    lost = [f"{name} is {row['status']}" for _, name, row in every if row["status"] == "pending"]
    lost += [
        f"{name} is {row['status']} and was never on air"
        for one, name, row in every
        if row["status"] in LEFT and not one.on_air[name]
    ]
    denied = [
        f"{name} was on air and is {row['status']}"
        for one, name, row in every
        if one.on_air[name] and row["status"] not in LEFT and not row["uncertain"]
    ]
    unmarked = [
        f"{name} is uncertain, and its phone is there"
        for one, name, row in every
        if row["uncertain"] and row["device_id"] not in one.gone
    ]
    half = [
        name
        for one, name, row in every
        if row["status"] == "sent" and row["device_id"] not in one.gone and name not in lost
    ]
    extra = [
        name
        for one in seen
        if not one.user.in_doubt
        for name in one.rows.keys() - one.user.accepted.keys()
        if one.rows[name]["recipient_number"] not in one.of_campaigns
    ]
    twice = [item for fleet in run.fleets for item in (*fleet.ledger.sent_twice(), *fleet.ledger.same_text_twice())]
    taken_back = [
        f"{name} is {one.rows[name]['status']}"
        for one in seen
        for name in one.user.cancelled
        if one.rows[name]["status"] != "cancelled" or one.on_air[name]
    ]
    status = Counter(row["status"] for _, _, row in every)
    return [
        Line("accepted", sum(len(one.user.accepted) for one in seen)),
        _zero("accepted and not known", (name for one in seen for name in one.user.accepted.keys() - one.rows.keys())),
        _zero("known and never asked for", extra),
        _zero("lost", lost),
        _zero("on air twice", twice),
        Line("on air", sum(len(one.on_air) for one in seen)),
        Line("delivered", status["delivered"]),
        Line("failed, their phones say", status["failed"] - sum(row["uncertain"] for _, _, row in every)),
        Line("cancelled", status["cancelled"]),
        Line("asked to be sent again by their owners", sum(len(one.user.retried) for one in seen)),
        Line("uncertain, each marked", sum(row["uncertain"] for _, _, row in every)),
        _zero("uncertain without reason", unmarked),
        _zero("on air, and something else says the gateway", denied),
        _zero("cancelled, and on air all the same", taken_back),
        _zero("sent, and the delivery never told", half),
        _zero("answers that nobody should get", (wrong for one in seen for wrong in one.user.wrong)),
    ]


def _of_campaigns(run: Run, seen: list[_Seen]) -> list[Line]:
    """Schedules, campaigns and opt-outs."""
    early, late, left_out, miscounted = [], [], [], []
    for one in seen:
        of_number: dict[str, list[str]] = defaultdict(list)
        for row in one.rows.values():
            of_number[row["recipient_number"]].append(row["status"])
        for entry in run.fleets[one.user.index].ledger:
            sent = one.user.accepted.get(base_of(entry.message_id))
            if sent and entry.wall < sent.not_before - CLOCK:
                early.append(f"{entry.number} left {sent.not_before - entry.wall:.2f} s before its time")
            out = one.user.opted_out.get(entry.number)
            if out is not None and entry.monotonic - run.began > out + IN_HAND:
                late.append(f"{entry.number} left {entry.monotonic - run.began - out:.1f} s after it had opted out")
        for campaign in one.user.campaigns:
            found = Counter(status for number in campaign.numbers for status in of_number[number])
            missing = [number for number in campaign.numbers if not of_number[number]]
            if not campaign.cancelled:
                left_out += [number for number in missing if number not in one.user.opted_out]
            counts = one.user.counts(campaign)
            miscounted += [
                f"campaign {campaign.id} counts {counts[name]} {name}, and there are {found[name]}"
                for name in ("sent", "delivered", "failed", "cancelled")
                if counts[name] != found[name]
            ]
    return [
        Line("recipients of campaigns", sum(len(one.of_campaigns) for one in seen)),
        Line("numbers that opted out", sum(len(one.user.opted_out) for one in seen)),
        _zero("recipients of campaigns without a message", left_out),
        _zero("campaigns that do not count what is there", miscounted),
        _zero("on air before their time", early),
        _zero(f"on air more than {IN_HAND:g} s after the number opted out", late),
    ]


def _untold(run: Run, seen: list[_Seen]) -> list[str]:
    """What receivers have yet to hear."""
    heard = run.receivers.heard()
    missing = []
    for one in seen:
        for name, row in one.rows.items():
            if ("/status", name, row["status"]) not in heard:
                missing.append(f"/status {name} {row['status']}")
            called = row["callback_url"] is not None and row["status"] in FINAL
            if called and not any(("/callback", name, status) in heard for status in FINAL):
                missing.append(f"/callback {name} {row['status']}")
        missing += [
            f"/incoming {row['message_id']}"
            for row in one.received
            if ("/incoming", row["message_id"], "received") not in heard
        ]
    return missing


def _of_webhooks(run: Run, seen: list[_Seen]) -> list[Line]:
    heard = run.receivers.heard()
    retried = {name for one in seen for name in one.user.retried}
    renamed = [
        f"{path} {name} {status}" for (path, name, status), ids in heard.items() if len(ids) > 1 and name not in retried
    ]
    final: Counter[str] = Counter(name for path, name, _ in heard if path == "/callback" and name not in retried)
    posts = sum(sum(ids.values()) for ids in heard.values())
    return [
        _zero("receivers never told", _untold(run, seen)),
        _zero("told again under another id", renamed),
        _zero("callbacks of two ends", (name for name, times in final.items() if times > 1)),
        Line("webhooks posted", posts),
        Line("of these repeated, under their id", posts - sum(len(ids) for ids in heard.values())),
    ]


def _of_figures(run: Run, seen: list[_Seen]) -> list[Line]:
    wrong = []
    for one in seen:
        status = Counter(row["status"] for row in one.rows.values())
        recount = {
            "total_sent": status["sent"] + status["delivered"] + status["failed"],
            "total_delivered": status["delivered"],
            "total_failed": status["failed"],
            "total_pending": status["pending"],
            "total_received": len(one.received),
        }
        stats = one.user.stats()
        wrong += [f"{name} is {stats[name]} instead of {n}" for name, n in recount.items() if stats[name] != n]
    texts = Counter(row["message"] for one in seen for row in one.received)
    return [
        _zero("figures that are not the recount", wrong),
        Line("received by phones and taken", len(run.inbound)),
        _zero("received and lost", (text for text in run.inbound if not texts[text])),
        _zero("received twice", (text for text, times in texts.items() if times > 1)),
    ]


def _recovery(event: Event, events: list[Event], asked: list[tuple[float, float]]) -> float | None:
    end = event.ended
    while True:
        back = min((at for since, at in asked if since >= end), default=None)
        if back is None:
            return None
        later = max((other.ended for other in events if event.began <= other.began < back), default=end)
        if later <= end:
            return round(max(back - end, 0.0), 2)
        end = later


def _pause(event: Event, back: float | None, left: list[float]) -> float:
    """The longest time between two single sends of which some was between the blow and its recovery."""
    end = event.ended + (back or 0.0)
    gaps = [later - at for at, later in pairwise(left) if later > event.began and at < end]
    return round(max(gaps, default=0.0), 2)


def _of_time(run: Run, verdict: Verdict) -> None:
    length = int(run.seconds) + 1
    verdict.on_air, verdict.accepted = [0] * length, [0] * length
    began: dict[str, float] = {}
    for fleet in run.fleets:
        for entry in fleet.ledger:
            at = entry.monotonic - run.began
            began.setdefault(base_of(entry.message_id), at)
            if at < length:
                verdict.on_air[int(at)] += 1
    asked: list[tuple[float, float]] = []
    for user in run.users:
        for name, sent in user.accepted.items():
            verdict.accepted[min(int(sent.answered), length - 1)] += 1
            if sent.single and name in began:
                asked.append((sent.asked, began[name]))
    left = sorted(at for _, at in asked)
    for event in run.events:
        back = _recovery(event, run.events, asked)
        verdict.recovered.append(Recovered(event, back, _pause(event, back, left)))
    known = [one.seconds for one in verdict.recovered if one.seconds is not None]
    windows = [sum(verdict.on_air[place : place + WINDOW]) / WINDOW for place in range(length - WINDOW)]
    verdict.lines += [
        _zero("blows without recovery", (one.event.name for one in verdict.recovered if one.seconds is None)),
        _zero(
            f"blows that took longer than {BACK_WITHIN:g} s",
            (f"{one.event.name}: {one.seconds} s" for one in verdict.recovered if (one.seconds or 0) > BACK_WITHIN),
        ),
        Line("longest recovery, seconds", max(known, default=0.0)),
        Line("longest pause of single sends, seconds", max((one.pause for one in verdict.recovered), default=0.0)),
        Line("median recovery, seconds", round(median(known), 2) if known else 0.0),
        Line("SMS on air per second, mean", round(sum(verdict.on_air) / length, 1)),
        Line(f"SMS on air per second, worst {WINDOW} s", min(windows, default=0.0)),
    ]
