"""Tasks that spread messages over phones."""

from app.campaigns import eligibility
from app.core.task_names import TaskName
from app.messages.dispatch import releasing, routing
from app.messages.life import opting_out
from workers.base import in_transaction, task


@task(TaskName.ROUTE)
def route(user_id: int) -> str:
    """Give one user's waiting messages phones, one batch of them."""
    return f"routed {in_transaction(routing.route_waiting, user_id)} messages of account {user_id}"


@task(TaskName.RELEASE)
def release() -> str | None:
    """Let wait for a phone what was scheduled for now."""
    in_transaction(releasing.reevaluate_hours)
    released = in_transaction(releasing.release, eligibility.keepers)
    return f"released {released} scheduled messages" if released else None


@task(TaskName.WITHDRAW)
def withdraw(user_id: int) -> str:
    """Withdraw what waits for one user's recipients who have opted out, one batch of it."""
    in_transaction(opting_out.withdraw, user_id)
    return f"withdrew what waited for recipients of account {user_id} who have opted out"
