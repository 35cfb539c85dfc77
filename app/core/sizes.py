"""How much of a machine an installation takes: one setting, `SMSFLEET_SIZE`."""

from typing import Literal

SizeName = Literal["default", "small"]

# Of each process, while nobody needs them. Each costs the database a process of 5 to 15 MB.
KEPT_CONNECTIONS: dict[SizeName, int] = {"default": 20, "small": 3}
KEPT_HOT_CONNECTIONS: dict[SizeName, int] = {"default": 5, "small": 3}
