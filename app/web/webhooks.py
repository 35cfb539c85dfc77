"""Webhooks: where they go, what became of each, and delivering again."""

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from app.accounts.principals import hold, require
from app.core.database import transaction
from app.core.errors import AppError, Invalid
from app.core.validation import read, row_id
from app.web.lists import paging, wanted
from app.web.pages import PageRoute, go, page
from app.web.visits import Posts, SignedIn, Visit
from app.webhooks import history, signing, trial, urls
from app.webhooks.claims import Call
from app.webhooks.outbox import AccountHook
from app.webhooks.routes import DeliveryFilter, ReplayRange, WebhooksChange
from app.webhooks.trial import WebhookTestOut

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_HOOKS: dict[str, AccountHook] = {"webhook_url_incoming": "incoming", "webhook_url_status": "status"}


def _webhooks(visit: Visit, error: AppError | None = None, tested: WebhookTestOut | None = None) -> Response:
    with transaction() as session:
        hold(session, visit.me)  # a secret that is made here must not become known to who has the account no longer
        secret, until = signing.current(session, visit.me.user_id)
        refused, paged = error, paging(visit, path="/webhooks")
        try:
            data = history.page(
                session,
                visit.me.user_id,
                wanted(visit, DeliveryFilter, "state", "event", "url", "message_id").values(),
                paged,
            )
        except Invalid as found:
            refused, data = found, history.page(session, visit.me.user_id, {}, paged)
        return page(
            visit,
            "webhooks.html",
            error=refused,
            urls=urls.shown(session, visit.me.user_id),
            secret=secret,
            previous_until=until,
            data=data,
            tested=tested,
            state=visit.query("state"),
        )


@router.get("/webhooks")
def webhooks(visit: SignedIn) -> Response:
    return _webhooks(visit)


@router.post("/webhooks")
def change(visit: Posts) -> Response:
    try:
        require(visit.me, "webhooks", "webhooks")
        given = visit.read(WebhooksChange).given()
        with transaction() as session:
            hold(session, visit.me)
            urls.change(session, visit.me.user_id, {_HOOKS[name]: url for name, url in given.items()})
    except AppError as error:
        return _webhooks(visit, error)
    return go("/webhooks?done=saved")


@router.post("/webhooks/secret")
def rotate(visit: Posts) -> Response:
    require(visit.me, "webhooks", "webhooks")
    with transaction() as session:
        hold(session, visit.me)
        signing.rotate(session, visit.me.user_id)
    return go("/webhooks?done=saved")


@router.post("/webhooks/test/{hook}")
async def test(visit: Posts, hook: str) -> Response:
    try:
        require(visit.me, "webhooks", "webhooks")
        call = await run_in_threadpool(_prepare, visit, "incoming" if hook == "incoming" else "status")
        tested = await trial.send(call)
    except AppError as error:
        return await run_in_threadpool(_webhooks, visit, error)
    return await run_in_threadpool(_webhooks, visit, None, tested)


def _prepare(visit: Visit, hook: AccountHook) -> Call:
    with transaction() as session:
        return trial.prepare(session, visit.me.user_id, hook)


@router.post("/webhooks/replay")
def replay_many(visit: Posts) -> Response:
    try:
        require(visit.me, "webhooks", "webhooks")
        span = read(ReplayRange, {name: visit.moment(name) for name in ("from", "to")})
        with transaction() as session:
            history.replay_failed(session, visit.me.user_id, span.since, span.until)
    except AppError as error:
        return _webhooks(visit, error)
    return go("/webhooks?done=replaying")


@router.get("/webhooks/{delivery}")
def delivery(visit: SignedIn, delivery: str) -> Response:
    with transaction() as session:
        return page(visit, "delivery.html", delivery=history.show(session, visit.me.user_id, row_id(delivery)))


@router.post("/webhooks/{delivery}/replay")
def replay(visit: Posts, delivery: str) -> Response:
    require(visit.me, "webhooks", "webhooks")
    with transaction() as session:
        history.replay(session, visit.me.user_id, row_id(delivery))
    return go(f"/webhooks/{row_id(delivery)}?done=replaying")
