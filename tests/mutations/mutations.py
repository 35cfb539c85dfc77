"""Ways to break the product on purpose. A proof that finds none of them proves nothing."""

from typing import Literal, NamedTuple


class Mutation(NamedTuple):
    """In `file`, `old` becomes `new`; `proof` finds it with `words`."""

    name: str
    file: str
    old: str
    new: str
    proof: Literal["interleavings", "chaos"]
    words: str


MUTATIONS = (
    Mutation(
        "change a message without holding its queue row",
        "app/messages/life/transitions.py",
        '_WAIT, _NOWAIT = text(_LOCK_QUEUED), text(f"{_LOCK_QUEUED} NOWAIT")',
        '_WAIT, _NOWAIT = (text(_LOCK_QUEUED.replace("FOR NO KEY UPDATE", "")) for _ in "12")',
        "interleavings",
        "routed: cancel | pull",
    ),
    Mutation(
        "change a message without holding its own row",
        "app/messages/life/transitions.py",
        "FROM messages WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE",
        "FROM messages WHERE id = ANY(:ids) ORDER BY id",
        "interleavings",
        "uncertain: re",
    ),
    Mutation(
        "send again what is pending already",
        "app/messages/life/transitions.py",
        'case Event.RETRIED if status is Status.FAILED and row["deleted_at"] is None',
        'case Event.RETRIED if row["deleted_at"] is None',
        "interleavings",
        "uncertain: retry | retry",
    ),
    Mutation(
        "end a webhook by whoever called last, whose lease it is or not",
        "app/webhooks/records.py",
        '_IS_MINE = f"{by_key(WebhookQueueEntry.delivery_id)} AND u.lease_id = q.lease_id"',
        '_IS_MINE = f"{by_key(WebhookQueueEntry.delivery_id)}"',
        "interleavings",
        "lapsed: record taken | claim",
    ),
    Mutation(
        "accept a send although another has its key",
        "app/messages/storing.py",
        "WHERE (u.key IS NULL OR c.id IS NOT NULL) AND",
        "WHERE",
        "interleavings",
        "nothing: send with a key | send with a key",
    ),
    Mutation(
        "move what a phone was given",
        "app/messages/life/moving.py",
        """{taken(":user", "p.device_id", where="k.lane = :lane AND NOT q.named", most=":most")}) q
        LIMIT :most
    ), unrouted AS (
        UPDATE message_queue SET device_id = 0,""",
        """{taken(":user", "p.device_id", [0, 1], where="k.lane = :lane AND NOT q.named", most=":most")}) q
        LIMIT :most
    ), unrouted AS (
        UPDATE message_queue SET stage = 0, device_id = 0,""",
        "interleavings",
        "released: switch off | pull of the other",
    ),
    Mutation(
        "believe a time-out more than the phone",
        "app/messages/states.py",
        "CONCLUDED_FAILURE: dict[Event, Status] = {\n    Event.SENT: Status.SENT,\n    Event.DELIVERED: Status.DELIVERED,",
        "CONCLUDED_FAILURE: dict[Event, Status] = {",
        "interleavings",
        "unreported: expire | report sent",
    ),
    Mutation(
        "never look where no mark leads",
        "app/messages/dispatch/marks.py",
        "    while places and time.monotonic() >= _memory.rests_until:",
        "    while False:",
        "interleavings",
        "failed: mark | retry",
    ),
    Mutation(
        "call back at each end instead of the first",
        "app/messages/life/transitions.py",
        'first_final = target in {Status.DELIVERED, Status.FAILED} and row["failed_at"] is None',
        "first_final = target in {Status.DELIVERED, Status.FAILED}",
        "interleavings",
        "unreported: expire | report delivered",
    ),
    Mutation(
        "rely on nudges alone: no sweep",
        "app/messages/dispatch/sweeping.py",
        "    after = nudged = 0\n",
        "    return 0\n    after = nudged = 0\n",
        "chaos",
        "--seed 11 --messages 1000 --blows 8 --only broker",
    ),
    Mutation(
        "answer before the commit is on the disk",
        "app/core/database.py",
        "        if not hot:\n            _be_patient(session)\n        yield session",
        '        if not hot:\n            _be_patient(session)\n        session.execute(text("SET LOCAL synchronous_commit = off"))\n'
        "        yield session",
        "chaos",
        "--seed 12 --messages 2000 --blows 5 --only database",
    ),
    Mutation(
        "answer although the commit failed",
        "app/core/batching.py",
        "            outcomes = repeat_once(lambda: self._once(items))\n        except Exception as error:",
        "            outcomes = repeat_once(lambda: self._once(items))\n"
        "        except DBAPIError:\n            return [None] * len(items)\n        except Exception as error:",
        "chaos",
        "--seed 13 --messages 1000 --blows 6 --only database",
    ),
)
