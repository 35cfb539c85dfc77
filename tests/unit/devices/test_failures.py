"""What the error texts of phones say."""

import pytest

from app.devices import failures


@pytest.mark.parametrize(
    ("error", "code", "parts", "elsewhere"),
    [
        (
            "Send result: RESULT_ERROR_NO_SERVICE (Failed because service is currently unavailable)",
            "no_service",
            1,
            True,
        ),
        ("Send result: RESULT_ERROR_NO_SERVICE (Failed because …)", "no_service", 2, False),
        ("Send result: RESULT_ERROR_RADIO_OFF (Failed because radio was explicitly turned off)", "radio_off", 1, True),
        ("Send result: RESULT_ERROR_LIMIT_EXCEEDED (Failed because …)", "limit_exceeded", 3, True),
        ("Send result: RESULT_ERROR_SHORT_CODE_NEVER_ALLOWED (Failed because …)", "denied", 1, True),
        ("Send result: RESULT_UNEXPECTED_EVENT_STOP_SENDING (Failed because the user …)", "denied", 2, True),
        ("Send result: RESULT_NO_DEFAULT_SMS_APP (Set by BroadcastReceiver …)", "no_sim", 1, True),
        ("Send result: RESULT_RIL_SIM_ABSENT (…)", "sim_not_ready", None, True),
        ("Send result: RESULT_RIL_REQUEST_RATE_LIMITED (…)", "rate_limited", 2, False),
        ("Can't send message: SIM 2 not found", "no_sim", 1, True),
        ("Send result: Unknown error code: 33", "denied", 1, True),
        ("Send result: Unknown error code: 999", "other", 1, False),
        ("Send result: RESULT_ERROR_GENERIC_FAILURE (Generic failure cause)", "generic", 1, False),
        (
            "Send result: RESULT_RIL_RADIO_NOT_AVAILABLE (The radio did not start or is resetting)",
            "radio_error",
            1,
            False,
        ),
        ("Send result: RESULT_NETWORK_REJECT (Failed because of network rejection)", "rejected", 1, False),
        ("Send result: RESULT_SOMETHING_NEW (…)", "other", 1, False),
        ("Send result: RESULT_ERROR_NULL_PDU (Failed because no PDU provided)", "bad_message", 1, False),
        ("sendSMS: Invalid destinationAddress", "bad_message", 1, False),
        ("sendSMS: database is locked", "other", 1, False),
        ("Delivery result: 64", "not_delivered", 1, False),
        ("Delivery result from SC +998: 70", "not_delivered", 1, False),
        ("TTL expired", "expired", 1, False),
        (None, "other", 1, False),
    ],
)
def test_an_error_text_says_why_and_whether_another_phone_may_try(error, code, parts, elsewhere):
    assert failures.reason_of(error).code == code
    assert failures.may_be_tried_elsewhere(error, parts) is elsewhere


def test_only_what_certainly_did_not_leave_may_be_tried_elsewhere():
    assert all(reason.left is False for reason in failures.REASONS.values() if reason.elsewhere or reason.whole)
    assert set(failures._BY_NUMBER.values()) <= set(failures._BY_NAME)
