"""What results add to the figures of phones (`devices.figures`) and of campaigns, from the row of the message."""

from collections import Counter
from datetime import date

from app.devices.failures import NEVER_REPORTED, reason_of
from app.devices.figures import Key, Kind, time_class
from app.messages.models import MessageRow, QueuedRow
from app.messages.states import Status
from app.messages.storing import CampaignKey

Results = Counter[Key]

UNCERTAIN = "uncertain"
# It failed before any phone had it: its validity was over, or the phone that it was for was removed.
NOT_TAKEN = "not_taken"


def counted_on(row: MessageRow) -> date:
    """The day that the message's sending is counted to, which it has once it is no longer pending."""
    day = row["counted_on"]
    assert day is not None
    return day


def left(results: Results, row: MessageRow, before: Status, target: Status) -> None:
    """The message became sent or delivered."""
    if row["device_id"] is None:
        return
    place = (row["device_id"], row["sim_slot"] or 0, counted_on(row))
    if before is not Status.SENT:
        results[*place, Kind.SENT, time_class(row["released_at"], row["sent_at"])] += 1
    if target is Status.DELIVERED:
        results[*place, Kind.DELIVERED, time_class(row["sent_at"], row["delivered_at"])] += 1


def failed(results: Results, row: MessageRow, n: int) -> None:
    """The message failed at its phone, or with -1, what was taken for it did not. Without a phone it is no result."""
    if row["device_id"] is not None and row["released_at"] is not None:
        reason = NEVER_REPORTED if row["uncertain"] else reason_of(row["error_message"])
        results[row["device_id"], row["sim_slot"] or 0, counted_on(row), Kind.FAILED, reason.code] += n


def failed_try(results: Results, queued: QueuedRow, day: date, error: str | None) -> None:
    """The message failed at its phone, and goes on to another."""
    results[queued["device_id"], queued["sim_slot"] or 0, day, Kind.FAILED, reason_of(error).code] += 1


def of_campaign(row: MessageRow) -> CampaignKey | None:
    """What the message's campaign counts it as; none where it has no campaign, or no result."""
    if row["campaign_id"] is None or row["status"] == Status.PENDING:
        return None
    result, reason = row["status"], ""
    if row["uncertain"]:
        result, reason = UNCERTAIN, NEVER_REPORTED.code
    elif result == Status.FAILED:
        reason = NOT_TAKEN if row["failed_by"] == "gateway" else reason_of(row["error_message"]).code
    return CampaignKey(row["campaign_id"], row["device_id"] or 0, result, reason)


def moved(counts: Counter[CampaignKey], before: CampaignKey | None, after: CampaignKey | None) -> None:
    """The message is counted as something else now, or was not counted."""
    if before != after:
        counts.update({key: n for key, n in ((before, -1), (after, 1)) if key})
