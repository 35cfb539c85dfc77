"""The operator's environment: settings from the file `.env` of the working folder, and names that mean nothing."""

import difflib
import os
from pathlib import Path

from dotenv import dotenv_values

from app.core.settings import Settings
from app.local.errors import LocalError

_PREFIX = "SMSFLEET_"
# Read by docker-compose.yml, by the simulated phones, and by `smsfleet campaign`.
_OTHERS = {"SMSFLEET_BIND", "SMSFLEET_DOMAIN", "SMSFLEET_TOKEN", "SMSFLEET_URL", "SMSFLEET_API_KEY"}
_KNOWN = {_PREFIX + field.upper() for field in Settings.model_fields} | _OTHERS


def load_dotenv(path: Path = Path(".env")) -> None:
    """Take our settings from the file, as Compose does: what the environment has goes before them.

    Raises `LocalError`.
    """
    if not path.is_file():
        return
    try:
        values = dotenv_values(path)
    except UnicodeDecodeError:
        raise LocalError(f"{path.resolve()} is not in UTF-8: save it in that encoding") from None
    for name, value in values.items():
        if name.upper().startswith(_PREFIX) and value is not None:
            os.environ.setdefault(name, value)


def unknown_names() -> list[str]:
    """Names in the environment that look like settings of ours and are none."""
    return [name for name in sorted(os.environ) if name.upper().startswith(_PREFIX) and name.upper() not in _KNOWN]


def explain_unknown(name: str) -> str:
    """The sentence about an unknown name."""
    close = difflib.get_close_matches(name.upper(), _KNOWN, 1)
    return f"{name} is not a setting of smsfleet" + (f"; did you mean {close[0]}?" if close else "")
