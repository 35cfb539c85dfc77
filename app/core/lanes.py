"""Which goes first wherever something waits: messages for phones, and the webhooks that they cause."""

from enum import IntEnum


class Lane(IntEnum):
    """A single send goes before any bulk."""

    SINGLE = 0
    BULK = 1
