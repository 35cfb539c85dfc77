"""What a start needs to print the operator's sign-in link; `accounts.sign_in_links` says what it is good for."""

from datetime import timedelta

from app.core.security import random_text

VALID_FOR = timedelta(minutes=10)
PATH = "/start/"
_SECRET_LENGTH = 32


def new_secret() -> str:
    return random_text(_SECRET_LENGTH)
