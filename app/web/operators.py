"""For operators: whether the installation works, who uses it, and giving them premium."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import redis
from fastapi import APIRouter, Response
from pydantic import Field
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.accounts import blocking, plans
from app.accounts.models import User
from app.checks import looks
from app.checks.finding import Finding, Severity
from app.core import broker, heartbeat
from app.core.database import transaction
from app.core.errors import AppError, NotFound, Refused
from app.core.outbound import get_redis
from app.core.refusals import OWN_ACCOUNT
from app.core.settings import get_settings
from app.core.task_names import QueueName
from app.core.validation import Body, Integer, row_id
from app.devices.presence import ONLINE
from app.messages.states import Stage
from app.web import flower
from app.web.pages import PageRoute, go, page
from app.web.visits import Operator, OperatorPosts, Visit
from app.web.words import marked

router = APIRouter(include_in_schema=False, route_class=PageRoute)

MAX_COUNTED = 100_000
_USERS_SHOWN = 100


_DOES: dict[str, str] = {
    QueueName.DISPATCH: marked("gives messages to phones"),
    QueueName.WEBHOOKS: marked("calls webhooks"),
    QueueName.UPKEEP: marked("looks after what is late or old"),
    heartbeat.BEAT: marked("gives the beat"),
    heartbeat.API: marked("answers browsers, programs and phones"),
}


class Months(Body):
    months: Annotated[Integer, Field(ge=1, le=plans.MAX_MONTHS)]


@dataclass(frozen=True, slots=True)
class Process:
    """A process that said that it works, how many seconds ago."""

    kind: str
    name: str
    age: int

    @property
    def does(self) -> str:
        """What it is for."""
        return _DOES[self.kind]

    @property
    def works(self) -> bool:
        return self.age < heartbeat.LASTS_SECONDS

    @property
    def is_late(self) -> bool:
        return heartbeat.LATE_SECONDS <= self.age < heartbeat.TOLD_SECONDS


class Trouble(NamedTuple):
    """What does not work, as a code with the name of what it speaks of, and since how many seconds.

    Of the code "found" is what only the doctor has words for.
    """

    code: str
    name: str = ""
    seconds: int = 0
    finding: Finding | None = None

    @property
    def is_mild(self) -> bool:
        if self.finding:
            return self.finding.severity < Severity.BROKEN
        return self.code in {"late", "died"}


_STANDING = text(f"""
    SELECT (SELECT count(*) FROM (SELECT FROM message_queue LIMIT :most) counted) AS messages,
           (SELECT min(since) FROM (SELECT since FROM message_queue WHERE stage = {Stage.WAITING}
                                    ORDER BY message_id LIMIT 100) AS first) AS oldest_message,
           (SELECT count(*) FROM (SELECT FROM webhook_queue LIMIT :most) counted) AS webhooks,
           (SELECT min(next_attempt_at) FROM webhook_queue) AS oldest_webhook,
           (SELECT count(*) FROM devices WHERE removed_at IS NULL) AS phones,
           (SELECT count(*) FROM device_state s JOIN devices d ON d.id = s.device_id
            WHERE d.removed_at IS NULL AND d.is_active AND {ONLINE}) AS online,
           (SELECT count(*) FROM users WHERE deleted_at IS NULL) AS users,
           current_setting('server_version') AS version, pg_database_size(current_database()) AS size
""")  # noqa: S608 - constants


def _processes() -> list[Process]:
    """Those that said within the last hour that they work."""
    kinds = (*heartbeat.NEEDED, heartbeat.API)
    ages = heartbeat.ages(get_redis(), *kinds)
    return [Process(str(kind), name, age) for kind in kinds for name, age in sorted(ages[kind].items())]


# Findings that codes speak of.
_OF_QUEUES = {*(f"queue {queue}" for queue in QueueName), "ticks"}
_OF_BROKER = {"broker", "valkey"}


def troubles() -> list[Trouble]:
    """What does not work. Looks at everything, which may take seconds: not within a transaction."""
    try:
        return _troubles(_processes())
    except redis.RedisError:
        return _troubles_without_broker()


def _troubles(processes: list[Process]) -> list[Trouble]:
    working = {process.kind for process in processes if process.works}
    idle = [str(kind) for kind in heartbeat.NEEDED if str(kind) not in working]
    found = [Trouble("beat" if kind == heartbeat.BEAT else "queue", kind) for kind in idle]
    late = {process.name: process.age for process in processes if process.is_late}
    found += [Trouble("late", name, age) for name, age in late.items()]
    found += [Trouble("died", name, age) for name, age in heartbeat.deaths(get_redis()).items()]
    return found + _findings(_OF_QUEUES)


def _troubles_without_broker() -> list[Trouble]:
    """Nobody knows who works."""
    return [Trouble("broker"), *_findings(_OF_BROKER)]


def _findings(told: set[str]) -> list[Trouble]:
    """What the doctor finds besides what is told already, the worst first."""
    worse = [one for one in looks.recent(get_settings()) if not one.good and one.what not in told]
    return [Trouble("found", one.what, finding=one) for one in sorted(worse, key=lambda one: -one.severity)]


def standing() -> dict[str, Any]:
    """How the installation fares: processes, queues, database and broker, and what is wrong."""
    try:
        processes, settings = _processes(), get_settings()
        found: dict[str, Any] = {"processes": processes, "queues": broker.lengths(settings)}
        found |= {"broker": broker.name(settings), "troubles": _troubles(processes)}
    except broker.ERRORS:
        found = {"broker": None, "processes": [], "troubles": _troubles_without_broker(), "queues": {}}
    with transaction() as session:
        return {**session.execute(_STANDING, {"most": MAX_COUNTED + 1}).mappings().one(), **found}


@router.get("/operators")
def overview(visit: Operator) -> Response:
    return page(visit, "operators.html", has_flower=flower.is_there(), **standing())


@router.get("/operators/now")
def now(visit: Operator) -> Response:
    return page(visit, "operators_now.html", **standing())


@router.get("/operators/doctor")
def doctor(visit: Operator) -> Response:
    """What `smsfleet doctor` finds, as far as an API process can see it."""
    found = sorted(looks.examine(get_settings()), key=lambda finding: -finding.severity)
    return page(visit, "operators_doctor.html", findings=found, troubled=any(not finding.good for finding in found))


@dataclass(frozen=True, slots=True)
class _User:
    id: int
    name: str
    email: str
    is_operator: bool
    blocked_at: datetime | None
    premium_expires_at: datetime | None
    created_at: datetime
    phones: int
    sent: int


_USERS = text("""
    SELECT u.id, u.name, u.email, u.is_operator, u.blocked_at, u.premium_expires_at, u.created_at,
           (SELECT count(*) FROM devices d WHERE d.user_id = u.id AND d.removed_at IS NULL) AS phones,
           (SELECT COALESCE(CAST(sum(n) AS bigint), 0) FROM (
                SELECT n FROM usage_totals t WHERE t.user_id = u.id AND t.kind = 'sent'
                UNION ALL SELECT n FROM usage_deltas t WHERE t.user_id = u.id AND t.kind = 'sent') AS parts) AS sent
    FROM users u WHERE u.deleted_at IS NULL AND u.id > :after ORDER BY u.id LIMIT :most
""")


def _users(visit: Visit, error: AppError | None = None, refused: str = "") -> Response:
    """`refused`: the user whose form it was."""
    after = row_id(visit.query("after")) or 0
    with transaction() as session:
        found = [_User(*row) for row in session.execute(_USERS, {"after": after, "most": _USERS_SHOWN + 1})]
    shown, more = found[:_USERS_SHOWN], len(found) > _USERS_SHOWN
    return page(
        visit,
        "operators_users.html",
        error=error,
        users=shown,
        next=shown[-1].id if more else None,
        here=_here(visit),
        refused=row_id(refused),
    )


def _here(visit: Visit) -> str:
    """Which page of the list it is, as the address says it."""
    after = row_id(visit.query("after"))
    return f"after={after}&" if after else ""


@router.get("/operators/users")
def users(visit: Operator) -> Response:
    return _users(visit)


@router.post("/operators/users/{user}/premium")
def give_premium(visit: OperatorPosts, user: str) -> Response:
    try:
        wanted = visit.read(Months)
    except AppError as error:
        return _users(visit, error, user)
    with transaction() as session:
        plans.add_premium(session, _named(session, user).id, wanted.months)
    return go(f"/operators/users?{_here(visit)}done=saved")


def _named(session: Session, user: str) -> User:
    """The user's row, locked. Raises `NotFound`."""
    query = select(User).where(User.id == (row_id(user) or 0), User.deleted_at.is_(None))
    found = session.scalar(query.with_for_update(key_share=True))
    if found is None:
        raise NotFound("User")
    return found


@router.post("/operators/users/{user}/block")
def block(visit: OperatorPosts, user: str) -> Response:
    with transaction() as session:
        found = _named(session, user)
        if found.id == visit.me.user_id:
            raise Refused(OWN_ACCOUNT)
        blocking.block(session, found, by=visit.me.user_id)
    return go(f"/operators/users?{_here(visit)}done=blocked")


@router.post("/operators/users/{user}/unblock")
def unblock(visit: OperatorPosts, user: str) -> Response:
    with transaction() as session:
        blocking.unblock(session, _named(session, user), by=visit.me.user_id)
    return go(f"/operators/users?{_here(visit)}done=unblocked")
