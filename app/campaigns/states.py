"""The life of a campaign.

    draft ──▶ scheduled ──▶ running ◀──▶ paused
      ╰────────────────────▶  │  ╲         │
                              ▼   ╲        ▼
                          finished  ▶ cancelled

`cancelled` is reached from everything but `finished`. A finished campaign runs again when its failures are retried.
"""

from enum import IntEnum, StrEnum


class CampaignStatus(StrEnum):
    DRAFT = "draft"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"


class PausedBy(StrEnum):
    """Who or what paused a campaign."""

    OWNER = "owner"
    CANARY = "canary"
    STOP_RULE = "stop_rule"
    END_AT = "end_at"
    PLAN = "plan"
    RESTORE = "restore"


class Verb(StrEnum):
    """What is asked of a campaign as a whole."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    FINISH = "finish"
    RETRY = "retry"


# From where each is allowed. Where it leads already is no refusal: twice is the same as once.
ALLOWED: dict[Verb, frozenset[CampaignStatus]] = {
    Verb.START: frozenset({CampaignStatus.DRAFT, CampaignStatus.SCHEDULED}),
    Verb.PAUSE: frozenset({CampaignStatus.RUNNING}),
    Verb.RESUME: frozenset({CampaignStatus.PAUSED}),
    Verb.CANCEL: frozenset(
        {CampaignStatus.DRAFT, CampaignStatus.SCHEDULED, CampaignStatus.RUNNING, CampaignStatus.PAUSED}
    ),
    Verb.FINISH: frozenset({CampaignStatus.RUNNING}),
    Verb.RETRY: frozenset({CampaignStatus.RUNNING, CampaignStatus.PAUSED, CampaignStatus.FINISHED}),
}
# Where its owner may still add recipients, and change everything.
OPEN = frozenset({CampaignStatus.DRAFT, CampaignStatus.SCHEDULED})
# What may be deleted.
AT_REST = frozenset({CampaignStatus.DRAFT, CampaignStatus.FINISHED, CampaignStatus.CANCELLED})


class RecipientState(IntEnum):
    """Where a recipient stands: `WAITING` for a message to be made or made again, `MADE`, or left out."""

    WAITING = 0
    MADE = 1
    LEFT_OUT = 2
