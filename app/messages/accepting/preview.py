"""What a text comes to before it is sent."""

from sqlalchemy.orm import Session

from app.core.errors import Invalid
from app.messages.accepting.device_choice import account_rate
from app.messages.placeholders import fill
from app.messages.schemas import MESSAGE_LENGTH, Forcing, Preview, PreviewDraft
from app.messages.segments import forcing_ucs2, replacement, segments


def preview(session: Session, user_id: int, draft: PreviewDraft) -> Preview:
    """The text with its placeholders filled, and its encoding, segments and price. Raises `Invalid`.

    Without `fields` placeholders that have no default stay, as they do in a single send.
    """
    message, unknown = fill(draft.message, draft.fields or {})
    if unknown and draft.fields is not None:
        named = ", ".join(f"{{{name}}}" for name in unknown)
        raise Invalid({"message": [f"The message field has placeholders that no field fills: {named}."]})
    if not message.strip():
        raise Invalid({"message": ["The message field is required; nothing is left of it once it is filled."]})
    if len(message) > MESSAGE_LENGTH:
        sentence = f"The message field must not be greater than {MESSAGE_LENGTH} characters"
        raise Invalid({"message": [f"{sentence}; once it is filled it has {len(message)}."]})
    number, encoding = segments(message)
    return Preview(
        message=message,
        encoding=encoding,
        segments=number,
        characters=len(message),
        forced_by=[Forcing(character=each, replacement=replacement(each)) for each in forcing_ucs2(message)],
        price=account_rate(session, user_id),
    )
