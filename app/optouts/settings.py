"""What an account does about keywords."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core.arrays import unnest
from app.core.errors import Invalid
from app.optouts.models import OptOutSettings
from app.optouts.schemas import OptOutSettingsOut
from app.optouts.words import Keywords, Meaning, folded, keywords

_DEFAULTS = OptOutSettingsOut(
    keywords=True,
    opt_out_words=[],
    opt_in_words=None,
    opt_out_reply=None,
    opt_in_reply=None,
    help_reply=None,
    events=False,
)
_IN_BOTH = {"opt_in_words": ["The opt in words field must not have words that opt out."]}
_ANSWERS_ITSELF = "The {name} field must not be a keyword itself."


_DISARM = text("""
    UPDATE opt_out_settings SET opt_out_reply = NULL, opt_in_reply = NULL, help_reply = NULL WHERE user_id = :user
""")


def of_account(session: Session, user_id: int) -> OptOutSettingsOut:
    """The account's settings, or the defaults."""
    found = session.scalars(select(OptOutSettings).where(OptOutSettings.user_id == user_id)).one_or_none()
    return OptOutSettingsOut.model_validate(found, from_attributes=True) if found else _DEFAULTS


def change(session: Session, user_id: int, given: Mapping[str, Any]) -> OptOutSettingsOut:
    """Change the settings given. Raises `Invalid` for words that contradict each other, and answers that are words."""
    statement = insert(OptOutSettings).values(user_id=user_id, **given)
    changed = statement.on_conflict_do_update(index_elements=["user_id"], set_={**given, "user_id": user_id})
    row = session.scalars(changed.returning(OptOutSettings)).one()
    if {folded(word) for word in row.opt_out_words} & {folded(word) for word in row.opt_in_words or ()}:
        raise Invalid(_IN_BOTH)
    mine = keywords(row.opt_out_words, row.opt_in_words)
    # Two gateways that answer each other's keywords would never end.
    wrong = [name for name in _REPLIES.values() if (reply := getattr(row, name)) and mine.meaning(reply)]
    if wrong:
        raise Invalid({name: [_ANSWERS_ITSELF.format(name=name.replace("_", " "))] for name in wrong})
    return OptOutSettingsOut.model_validate(row, from_attributes=True)


_REPLIES = {Meaning.OPT_OUT: "opt_out_reply", Meaning.OPT_IN: "opt_in_reply", Meaning.HELP: "help_reply"}


@dataclass(frozen=True, slots=True)
class Rules:
    """An account's keywords, none where they are switched off; what it answers, which is nothing while it is blocked;
    whether its webhook is told.
    """

    keywords: Keywords | None
    replies: Mapping[Meaning, str | None]
    events: bool
    region: str | None


_RULES = text(f"""
    SELECT u.user_id, a.default_region, s.keywords, s.opt_out_words, s.opt_in_words, s.opt_out_reply, s.opt_in_reply,
           s.help_reply, s.events, a.blocked_at IS NOT NULL AS is_blocked
    FROM {unnest(OptOutSettings.user_id)} JOIN users a ON a.id = u.user_id
    LEFT JOIN opt_out_settings s ON s.user_id = u.user_id
""")  # noqa: S608 - a name of a column


def rules_of(session: Session, user_ids: Collection[int]) -> dict[int, Rules]:
    """What each account does about keywords."""
    found: dict[int, Rules] = {}
    for row in session.execute(_RULES, {"user_id": sorted(user_ids)}):
        mine = None if row.keywords is False else keywords(row.opt_out_words or (), row.opt_in_words)
        replies = {meaning: None if row.is_blocked else getattr(row, name) for meaning, name in _REPLIES.items()}
        found[row.user_id] = Rules(mine, replies, bool(row.events), row.default_region)
    return found


def disarm(session: Session, user_id: int) -> None:
    """No keyword is answered with what the account's maker wrote. The words stay: who says one wants no messages."""
    session.execute(_DISARM, {"user": user_id})
