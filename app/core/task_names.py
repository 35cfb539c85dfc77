"""Names that cross process borders: queues, tasks, and the pub/sub channel of the phones' streams."""

from enum import StrEnum


class QueueName(StrEnum):
    """Celery queues; each has workers of its own."""

    DISPATCH = "dispatch"
    WEBHOOKS = "webhooks"
    UPKEEP = "upkeep"


class TaskName(StrEnum):
    """Celery tasks, `<queue>.<verb>`."""

    ROUTE = "dispatch.route"
    RELEASE = "dispatch.release"
    WITHDRAW = "dispatch.withdraw"
    FEED = "dispatch.feed"
    DELIVER = "webhooks.deliver"
    SWEEP = "upkeep.sweep"
    CAMPAIGNS = "upkeep.campaigns"
    MOVE = "upkeep.move"
    EXPIRE = "upkeep.expire"
    FOLD = "upkeep.fold"
    ANALYZE = "upkeep.analyze"
    VACUUM = "upkeep.vacuum"
    MARK = "upkeep.mark"
    CLEAN = "upkeep.clean"
    ERASE = "upkeep.erase"
    RETAIN = "upkeep.retain"
    ALERT = "upkeep.alert"
    QUIET = "upkeep.quiet"

    @property
    def queue(self) -> QueueName:
        return QueueName(self.partition(".")[0])


# What a worker sends to itself, to see that it works.
PULSE = "pulse"

PHONES_CHANNEL = "smsfleet:phones"
# With the number of the user whose pages it is for.
PAGES_CHANNEL = "smsfleet:pages:"
# What pages are told of.
MESSAGES, PHONES = "messages", "phones"
