"""Why a phone could not send an SMS, read from the error text of its report, and whether the SMS may have left.

The app's texts are `Send result: NAME (…)` with the names of Android's `SmsManager`, `Send result: Unknown error code:
N` for those it does not know, `Delivery result…`, and what its own code threw. A failure is tried on another phone only
where nothing can have left: an error of the modem or the network says that no confirmation came, not that no SMS went.
`RADIO_NOT_AVAILABLE` is among those, because Android answers with it what the radio still had when it restarted.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """A kind of failure, and what it says.

    `left`: False where the SMS certainly did not leave, True where it did, None where nobody knows. `whole`: it was
    decided before the first part of a long message. `elsewhere`: another phone may succeed. `of_phone`: it counts
    against the phone and its SIM card, not against the text or the recipient.
    """

    code: str
    sentence: str
    left: bool | None = None
    whole: bool = False
    elsewhere: bool = False
    of_phone: bool = True


def _unsent(code: str, sentence: str, *, whole: bool = False) -> Reason:
    return Reason(code, sentence, left=False, whole=whole, elsewhere=True)


NO_SERVICE = _unsent("no_service", "The SIM card has no mobile service.")
RADIO_OFF = _unsent("radio_off", "The phone's mobile radio is off, for example in airplane mode.")
LIMIT = _unsent("limit_exceeded", "Android's own limit on SMS was reached, or its queue is full.", whole=True)
RATE_LIMIT = _unsent("rate_limited", "The phone's radio refused the SMS because there were too many.")
DENIED = _unsent("denied", "Someone at the phone, or its settings, did not allow the SMS.", whole=True)
NO_SIM = _unsent("no_sim", "No usable SIM card: none is chosen for SMS, or the chosen one is missing.", whole=True)
SIM_NOT_READY = _unsent("sim_not_ready", "The SIM card is missing, locked or not active.")
FIXED_DIALING = _unsent("fixed_dialing", "The SIM card allows only fixed numbers (FDN).")
BUSY = _unsent("busy", "The phone was busy: a call was active, or it had no memory or resources left.")
NOT_SUPPORTED = _unsent("not_supported", "The phone is not set up to send SMS, for example its SMSC number is invalid.")
BAD_MESSAGE = Reason("bad_message", "The phone cannot send this text or to this number.", left=False, of_phone=False)
EXPIRED = Reason("expired", "The phone did not send it within its validity.", left=False, of_phone=False)
REJECTED = Reason("rejected", "The network rejected the SMS.")
RADIO_ERROR = Reason("radio_error", "The radio or the network reported an error.")
GENERIC = Reason("generic", "The phone gave no exact reason; often the SIM card has no credit.")
NOT_DELIVERED = Reason("not_delivered", "The SMS was sent and could not be delivered.", left=True, of_phone=False)
NEVER_REPORTED = Reason("never_reported", "The phone never reported what happened.", of_phone=False)
OTHER = Reason("other", "The phone reported an error that smsfleet does not know.")

REASONS = {reason.code: reason for reason in tuple(globals().values()) if isinstance(reason, Reason)}
# What counts against a phone.
OF_PHONE = sorted(code for code, reason in REASONS.items() if reason.of_phone)

# Names of `SmsManager`, without `RESULT_`, `RESULT_ERROR_` or `RESULT_RIL_`.
_BY_NAME: dict[str, Reason] = {
    "NO_SERVICE": NO_SERVICE,
    "NETWORK_NOT_READY": NO_SERVICE,
    "NO_NETWORK_FOUND": NO_SERVICE,
    "ACCESS_BARRED": NO_SERVICE,
    "RADIO_OFF": RADIO_OFF,
    "LIMIT_EXCEEDED": LIMIT,
    "REQUEST_RATE_LIMITED": RATE_LIMIT,
    "SHORT_CODE_NOT_ALLOWED": DENIED,
    "SHORT_CODE_NEVER_ALLOWED": DENIED,
    "UNEXPECTED_EVENT_STOP_SENDING": DENIED,
    "USER_NOT_ALLOWED": DENIED,
    "NO_DEFAULT_SMS_APP": NO_SIM,
    "SIM_ABSENT": SIM_NOT_READY,
    "SIM_PIN2": SIM_NOT_READY,
    "SIM_PUK2": SIM_NOT_READY,
    "SUBSCRIPTION_NOT_AVAILABLE": SIM_NOT_READY,
    "INVALID_SIM_STATE": SIM_NOT_READY,
    "NO_SUBSCRIPTION": SIM_NOT_READY,
    "FDN_CHECK_FAILURE": FIXED_DIALING,
    "SMS_BLOCKED_DURING_EMERGENCY": BUSY,
    "SIMULTANEOUS_SMS_AND_CALL_NOT_ALLOWED": BUSY,
    "BLOCKED_DUE_TO_CALL": BUSY,
    "NO_MEMORY": BUSY,
    "NO_RESOURCES": BUSY,
    "REQUEST_NOT_SUPPORTED": NOT_SUPPORTED,
    "OPERATION_NOT_ALLOWED": NOT_SUPPORTED,
    "INVALID_SMSC_ADDRESS": NOT_SUPPORTED,
    "NO_BLUETOOTH_SERVICE": NOT_SUPPORTED,
    "INVALID_BLUETOOTH_ADDRESS": NOT_SUPPORTED,
    "NULL_PDU": BAD_MESSAGE,
    "INVALID_SMS_FORMAT": BAD_MESSAGE,
    "INVALID_ARGUMENTS": BAD_MESSAGE,
    "ENCODING_ERROR": BAD_MESSAGE,
    "ENCODING_ERR": BAD_MESSAGE,
    "NETWORK_REJECT": REJECTED,
    "GENERIC_FAILURE": GENERIC,
    "NONE": GENERIC,
    **dict.fromkeys(
        (
            "RADIO_NOT_AVAILABLE",
            "INVALID_STATE",
            "INVALID_MODEM_STATE",
            "SYSTEM_ERROR",
            "SYSTEM_ERR",
            "MODEM_ERROR",
            "MODEM_ERR",
            "NETWORK_ERROR",
            "NETWORK_ERR",
            "INTERNAL_ERROR",
            "INTERNAL_ERR",
            "GENERIC_ERROR",
            "CANCELLED",
            "BLUETOOTH_DISCONNECTED",
            "SMS_SEND_RETRY_FAILED",
            "SMS_SEND_FAIL_RETRY",
            "REMOTE_EXCEPTION",
            "INVALID_RESPONSE",
            "SIM_ERROR",
            "SIM_BUSY",
            "SIM_FULL",
            "DEVICE_IN_USE",
            "ABORTED",
        ),
        RADIO_ERROR,
    ),
}
# Codes of newer versions of Android, which the app has no names for.
_BY_NUMBER = {
    33: "USER_NOT_ALLOWED",
    125: "INVALID_RESPONSE",
    126: "SIM_PIN2",
    127: "SIM_PUK2",
    128: "SUBSCRIPTION_NOT_AVAILABLE",
    129: "SIM_ERROR",
    130: "INVALID_SIM_STATE",
    132: "SIM_BUSY",
    133: "SIM_FULL",
    134: "NO_SUBSCRIPTION",
    135: "NO_NETWORK_FOUND",
    136: "DEVICE_IN_USE",
    137: "ABORTED",
}
# What the app or Android throws before it sends anything. Other texts of `sendSMS:` may come after it.
_BY_TEXT: tuple[tuple[str, Reason], ...] = (
    ("TTL expired", EXPIRED),
    ("Delivery result", NOT_DELIVERED),
    ("No SIMs found", NO_SIM),
    ("READ_PHONE_STATE", NO_SIM),
    ("SEND_SMS", DENIED),
    ("Invalid destinationAddress", BAD_MESSAGE),
    ("Invalid message body", BAD_MESSAGE),
    ("Invalid phone number", BAD_MESSAGE),
)
_NAME = re.compile(r"\bRESULT_(?:ERROR_|RIL_)?([A-Z0-9_]+)")
_NUMBER = re.compile(r"\bUnknown error code: (\d+)")
_SIM_NOT_FOUND = re.compile(r"\bSIM \d+ not found")


def reason_of(error: str | None) -> Reason:
    """The reason behind an error text; `OTHER` where the text is not known."""
    if not error:
        return OTHER
    if named := _NAME.search(error):
        return _BY_NAME.get(named[1], OTHER)
    if numbered := _NUMBER.search(error):
        return _BY_NAME.get(_BY_NUMBER.get(int(numbered[1]), ""), OTHER)
    if _SIM_NOT_FOUND.search(error):
        return NO_SIM
    return next((reason for text, reason in _BY_TEXT if text in error), OTHER)


def may_be_tried_elsewhere(error: str | None, parts: int | None) -> bool:
    """Whether the SMS certainly did not leave, not even the first of its parts, and another phone may send it."""
    reason = reason_of(error)
    return reason.elsewhere and reason.left is False and (reason.whole or (parts or 1) == 1)
