"""Health checks and metrics: for process managers, balancers and Prometheus."""

import secrets
from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.core import broker, heartbeat, metrics
from app.core.database import transaction
from app.core.errors import Forbidden, Unauthenticated
from app.core.outbound import get_redis
from app.core.refusals import METRICS_LOCAL
from app.core.settings import get_settings, is_loopback
from app.core.task_names import QueueName

State = Literal["up", "down"]

# On for a standby too.
_READ_ONLY = text("SHOW transaction_read_only")

_FORWARDING = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")

router = APIRouter(tags=["Health"])


class Liveness(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """`degraded`: sends are accepted and stored, but what is `down` is needed before all of them go out.

    A kind of worker is `up` if a task of its own came back to one within half a minute, beat if it ticked by then.
    """

    status: Literal["ok", "degraded", "unavailable"]
    database: State
    broker: State
    workers: dict[QueueName, State]
    beat: State


@router.get("/health/live", summary="Liveness probe")
async def live() -> Liveness:
    """Succeeds if the process answers."""
    return Liveness()


@router.get(
    "/health/ready",
    responses={
        200: {"model": Readiness},
        503: {"model": Readiness, "description": "The database is unreachable or read-only"},
    },
    summary="Readiness probe",
)
def ready() -> Response:
    """Succeeds if requests can be served; only the database is needed for that. `up` means writes are accepted."""
    database, (tasks, works) = _database(), _broker()
    states: dict[str, State] = {kind: "up" if is_working else "down" for kind, is_working in works.items()}
    status: Literal["ok", "degraded"] = "ok" if tasks == "up" and all(works.values()) else "degraded"
    found = Readiness(
        status=status if database == "up" else "unavailable",
        database=database,
        broker=tasks,
        workers={queue: states[queue] for queue in QueueName},
        beat=states[heartbeat.BEAT],
    )
    return JSONResponse(found.model_dump(), status_code=200 if database == "up" else 503)


@router.get("/metrics", include_in_schema=False)
def figures(request: Request) -> Response:
    """Figures for Prometheus: for who has the token; where none is set, for programs on this machine."""
    if token := get_settings().metrics_token:
        given = request.headers.get("authorization", "")
        if not secrets.compare_digest(given.encode("latin-1"), f"Bearer {token.get_secret_value()}".encode()):
            raise Unauthenticated
    elif get_settings().public_url or get_settings().trusted_proxies or not _is_from_here(request):
        raise Forbidden(METRICS_LOCAL)
    return Response(
        metrics.exposition(request.app.state.measure()), media_type="text/plain; version=0.0.4; charset=utf-8"
    )


def _is_from_here(request: Request) -> bool:
    """Whether it comes from this machine, and not through a proxy on it that said so."""
    return (
        request.client is not None
        and is_loopback(request.client.host)
        and not any(name in request.headers for name in _FORWARDING)
    )


def _database() -> State:
    try:
        with transaction() as session:
            return "up" if session.scalar(_READ_ONLY) == "off" else "down"
    except SQLAlchemyError:
        return "down"


def _broker() -> tuple[State, dict[str, bool]]:
    """Whether it takes writes, and what works by the marks that are left in Valkey."""
    try:
        broker.check(get_settings())
        return "up", heartbeat.working(get_redis(), *heartbeat.NEEDED)
    except broker.ERRORS:
        return "down", dict.fromkeys(heartbeat.NEEDED, False)
