"""Codes by the clock, against the vectors of RFC 6238."""

import base64

import pytest

from app.accounts import second_factor

SECRET = base64.b32encode(b"12345678901234567890").decode()


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (2000000000, "279037")],
)
def test_the_code_of_a_moment(seconds, code) -> None:
    assert second_factor.code_of(SECRET, seconds // second_factor.STEP_SECONDS) == code


def test_secrets_are_as_apps_take_them() -> None:
    secret = second_factor.new_secret()
    assert len(base64.b32decode(secret)) == 20
    assert secret != second_factor.new_secret()
    address = second_factor.address(secret, "ali+x@example.com")
    assert address == f"otpauth://totp/smsfleet:ali%2Bx%40example.com?secret={secret}&issuer=smsfleet"
