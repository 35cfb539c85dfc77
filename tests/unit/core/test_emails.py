"""What is an address, and what only looks like one."""

from email.message import EmailMessage

import pytest

from app.core.emails import is_email, normalize

# A terminal would obey the first two, nobody would see the others.
UNSEEN = ["\x1b", "\x9b", "\x00", "\x7f", "\r", "\n", "\u202e", "\u200b", "\u00ad", "\u2028"]


@pytest.mark.parametrize("sign", UNSEEN)
def test_what_cannot_be_seen_is_in_no_address(sign) -> None:
    for address in (f"a{sign}b@example.com", f"a{sign}@example.com", f"a@exa{sign}mple.com"):
        assert not is_email(address)


@pytest.mark.parametrize("number", [*range(0x250), 0xFF0C, 0xFF1B, 0xFF1C, 0xFF20, 0xFE50, 0x37E, 0x1F600])
def test_an_address_is_one_recipient_of_a_mail_and_adds_no_header(number) -> None:
    for address in (f"a{chr(number)}b@example.com", f"{chr(number)}a@example.com", f"a@b{chr(number)}example.com"):
        if is_email(address):
            mail = EmailMessage()
            mail["To"] = normalize(address)
            assert [each.addr_spec for each in mail["To"].addresses] == [normalize(address)]
            mail.set_content("x")
            assert mail.as_bytes().count(b"\nTo:") + mail.as_bytes().startswith(b"To:") == 1
