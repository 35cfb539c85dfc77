"""Why the API refuses a request: a code, and a whole sentence of its own for each, so that it can be translated.

What the schemas find wrong in single fields is worded in `validation`.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Refusal:
    """A code and its sentence, with `{name}` for each parameter.

    `fixed`: clients know the whole answer by heart, so it is sent without its code.
    """

    code: str
    sentence: str
    fixed: bool = False


def _fixed(code: str, sentence: str) -> Refusal:
    return Refusal(code, sentence, fixed=True)


SERVER_ERROR = _fixed("server_error", "Server Error")
UNAUTHENTICATED = _fixed("unauthenticated", "Unauthenticated.")
LACKS_ABILITY = _fixed("lacks_ability", "Invalid ability provided.")
NEEDS_PREMIUM = _fixed("needs_premium", "This feature requires Premium.")
NOT_FOUND = _fixed("not_found", "No query results for model [{model}].")
ROUTE_NOT_FOUND = _fixed("route_not_found", "The route {path} could not be found.")
METHOD_NOT_ALLOWED = _fixed(
    "method_not_allowed", "The {method} method is not supported for route {path}. Supported methods: {allowed}."
)
TOO_SLOW = _fixed("too_slow", "The request body did not arrive in time.")
TOO_LARGE = _fixed("too_large", "The request body is too large.")
UNSUPPORTED_MEDIA_TYPE = _fixed("unsupported_media_type", "The request body must be JSON or a form.")
UNSUPPORTED_FILE_TYPE = Refusal("unsupported_file_type", "The request body must be JSON, a form, CSV or XLSX.")
TOO_MANY_ATTEMPTS = _fixed("too_many_attempts", "Too Many Attempts.")
OVERLOADED = _fixed("overloaded", "The server is busy, try again shortly.")

# Accounts.
REGISTRATION_CLOSED = _fixed("registration_closed", "Registration is closed")
INVALID_CREDENTIALS = _fixed("invalid_credentials", "Invalid credentials")
INVALID_GOOGLE_TOKEN = _fixed("invalid_google_token", "Invalid Google token")
GOOGLE_UNAVAILABLE = _fixed("google_unavailable", "Google sign-in is not available")
OTHER_GOOGLE_ACCOUNT = Refusal(
    "other_google_account",
    "The account with this address is linked to another Google account; sign in with that one.",
)
PROMO_UNAVAILABLE = _fixed("promo_unavailable", "This promo code is invalid or no longer available.")
KEY_OUTLIVES = Refusal("key_outlives", "An API key cannot outlive the token that creates it.")
NO_PASSWORD = Refusal(
    "no_password", "This account has no password; sign in with Google, or set a password with a code sent by e-mail."
)
SESSION_NEEDED = Refusal("session_needed", "Only a session can delete the account; sign in first.")
SECOND_FACTOR_NEEDED = Refusal("second_factor_needed", "Enter the code of your authenticator app, or a recovery code.")
WRONG_SECOND_FACTOR = Refusal("wrong_second_factor", "The code is wrong or was already used.")
LINK_USED = Refusal("link_used", "This link was already used or has expired; start smsfleet again for a new one.")
FORM_EXPIRED = Refusal("form_expired", "This page was open for too long or came from elsewhere; reload it.")
NO_MAIL = Refusal("no_mail", "This server cannot send mail; ask its operator for a new password.")

ACCOUNT_BLOCKED = Refusal("account_blocked", "This account is blocked; ask the operator of this server.")
OWN_ACCOUNT = Refusal("own_account", "Nobody can block the account that they are signed in with.")
FLOWER_UNAVAILABLE = Refusal(
    "flower_unavailable", "Flower does not answer, or has another password than this gateway; see its log."
)

# Phones.
TOO_MANY_PHONES = Refusal("too_many_phones", "An account can have at most {limit} phones; remove one first.")
ENROLLING_TOO_FAST = Refusal(
    "enrolling_too_fast", "A private token can enroll at most {limit} phones a minute; try again shortly."
)
OTHER_DEVICE = Refusal("other_device", "The id does not belong to this device.")

# Messages.
NO_ACTIVE_DEVICE = _fixed("no_active_device", "No active device available")
KEY_IN_USE = Refusal("key_in_use", "A request with this Idempotency-Key is still being processed.")
KEY_USED = Refusal("key_used", "This Idempotency-Key was already used for another request.")
ONLY_PENDING = _fixed("only_pending", "Only pending messages can be cancelled")
NOT_PENDING = Refusal("not_pending", "The message's status is {status}.")
NOT_CONFIRMED = Refusal(
    "not_confirmed",
    "The phone has the message and was asked to give it back, but has not confirmed yet. "
    "If it does, the message will be cancelled.",
)
OLD_APP = Refusal(
    "old_app",
    "{phone} already has the message, and its app (version {version}) cannot give it back; "
    "that requires version {required} or later.",
)
ONLY_FAILED = Refusal("only_failed", "Only failed messages can be sent again")
STILL_HELD = Refusal("still_held", "A phone was given this message and may still send it")
ONLY_SCHEDULED = Refusal("only_scheduled", "Only messages that are still scheduled can be given another time")
OPTED_OUT = Refusal(
    "opted_out",
    "The recipient has opted out of your messages. If this one was asked for, send it with ignore_opt_out.",
)
NOBODY_LEFT = Refusal(
    "nobody_left",
    "None of the recipients is to be sent to: they have opted out, have had as many messages as your frequency cap"
    " allows, or have had the same text already.",
)
SAME_CONTENT = Refusal(
    "same_content",
    "Message {message} to this number has the same text, and your account does not send it again within {minutes}"
    " minutes.",
)
TRIED_ENOUGH = Refusal("tried_enough", "A message can be sent at most {limit} times")

# Campaigns.
ALREADY_STARTED = Refusal("already_started", "The campaign has started: no recipients can be added any more.")
CAMPAIGN_NOT_ALLOWED = Refusal("campaign_not_allowed", "The campaign is {state} and cannot be {done}.")
NO_RECIPIENTS = Refusal("no_recipients", "The campaign has no recipients; add some before you start it.")
END_HAS_PASSED = Refusal("end_has_passed", "The campaign's end has passed; change its end_at first.")
NOTHING_TO_RETRY = Refusal(
    "nothing_to_retry", "No message of the campaign has failed, except for those that may have been sent."
)
ONLY_AT_REST = Refusal("only_at_rest", "Only drafts and campaigns that are finished or cancelled can be deleted.")

# Webhooks.
NO_WEBHOOK_URL = Refusal("no_webhook_url", "No webhook URL is set.")
DELIVERY_PENDING = Refusal("delivery_pending", "This webhook delivery is still waiting to be delivered.")
DELIVERY_URL_GONE = Refusal("delivery_url_gone", "The webhook URL of this delivery is not set or is disabled.")

# App updates and operating.
FILE_MISSING = Refusal("file_missing", "The file of this release is not in this server's data folder.")
METRICS_LOCAL = Refusal(
    "metrics_local",
    "Metrics are available to programs on this machine only. Set SMSFLEET_METRICS_TOKEN and send it as a bearer token.",
)


def refuses(status: int, *refusals: Refusal, **parameters: Any) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: the refusals of its own that it answers with this status, besides the usual one.

    `parameters` are examples of those in the sentences.
    """
    examples = {refusal.code: {"value": body(refusal, parameters)} for refusal in refusals}
    content = {"application/json": {"examples": examples}} if examples else {}
    return {status: {"description": "", "content": content}}


def body(refusal: Refusal, parameters: dict[str, Any]) -> dict[str, Any]:
    """What a client is sent."""
    code = {} if refusal.fixed else {"reason_code": refusal.code}
    return {"success": False, "message": refusal.sentence.format(**parameters), **code}
