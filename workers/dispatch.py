"""Tasks that spread messages over phones."""

from app.core.task_names import TaskName
from app.messages.dispatch import releasing, routing
from app.messages.life import opting_out
from workers.base import in_transaction, task


@task(TaskName.ROUTE)
def route(user_id: int) -> None:
    """Give one user's waiting messages phones, one batch of them."""
    in_transaction(routing.route_waiting, user_id)


@task(TaskName.RELEASE)
def release() -> None:
    """Let wait for a phone what was scheduled for now."""
    in_transaction(releasing.release)


@task(TaskName.WITHDRAW)
def withdraw(user_id: int) -> None:
    """Withdraw what waits for one user's recipients who have opted out, one batch of it."""
    in_transaction(opting_out.withdraw, user_id)
