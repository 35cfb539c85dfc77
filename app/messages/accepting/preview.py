"""What a text comes to before it is sent."""

from sqlalchemy.orm import Session

from app.messages import templates
from app.messages.accepting.device_choice import account_rate
from app.messages.schemas import Forcing, Preview, PreviewDraft
from app.messages.segments import forcing_ucs2, replacement, segments


def preview(session: Session, user_id: int, draft: PreviewDraft) -> Preview:
    """The text with its placeholders filled, and its encoding, segments and price. Raises `Invalid`.

    Without `fields` placeholders that have no default stay, as they do in a single send.
    """
    message = draft.message
    if draft.template_id is not None:
        message = templates.text_of(session, user_id, draft.template_id)
    message = templates.filled(message, draft.fields or {}, may_stay=draft.fields is None)
    number, encoding = segments(message)
    return Preview(
        message=message,
        encoding=encoding,
        segments=number,
        characters=len(message),
        forced_by=[Forcing(character=each, replacement=replacement(each)) for each in forcing_ucs2(message)],
        price=account_rate(session, user_id),
    )
