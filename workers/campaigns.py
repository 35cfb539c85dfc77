"""The task that looks after campaigns."""

from app.campaigns import notices, supervising
from app.core.task_names import TaskName
from workers.base import in_transaction, task


@task(TaskName.FEED)
def feed(user_id: int) -> str:
    """Start, feed, stop and finish one account's campaigns, a batch of each."""
    notices.post(in_transaction(supervising.look, user_id))
    return f"looked after the campaigns of account {user_id}"
