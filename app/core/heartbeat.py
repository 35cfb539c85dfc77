"""The mark that beat leaves in the broker with every tick, for who asks whether it runs."""

import redis

_KEY = "health:beat"
LASTS_SECONDS = 30


def beat_ticked(broker: redis.Redis) -> None:
    broker.set(_KEY, 1, ex=LASTS_SECONDS)


def is_beat_ticking(broker: redis.Redis) -> bool:
    """Whether beat, or one of several, sent something within the last half minute."""
    return bool(broker.exists(_KEY))
