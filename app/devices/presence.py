"""Presence: when a phone counts as online, suspect or silent, in SQL over `device_state` as `s`.

A stream is a means to wake; life is an authenticated request. A phone that did not pull within 15 seconds of a wake, or
of something being due for it while it has lost its stream, is suspect, and was last seen then or by its last request.
One that only pulls may be quiet for longer than the app's 15 minutes; one that did not even pull is an enrollment whose
answer was lost.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Float, text
from sqlalchemy.orm import Session

from app.core import outbound
from app.core.arrays import unnest
from app.core.errors import Unauthenticated
from app.core.task_names import PHONES
from app.devices.auth import devices_by_token
from app.devices.models import DeviceState

_NOW = "clock_timestamp()"
# We write `stream_seen_at` ourselves as long as the connection stands, which a phone that hangs may never end.
LAST_SEEN = "GREATEST(s.seen_at, s.pulled_at, LEAST(s.stream_seen_at, s.woken_at))"

# The app opens a lost stream again after 5 seconds, a minute at most; without one for so long it only pulls.
_USES_STREAMS = f"COALESCE(s.stream_seen_at > {_NOW} - interval '1 hour', false)"
# Twice it was not noted as open.
_LOST_STREAM = f"({_USES_STREAMS} AND s.stream_seen_at < {_NOW} - interval '10 seconds')"

# No wake is sent before the last answer has arrived.
ANSWER_ARRIVES_WITHIN_SECONDS = 0.15
QUIET_FOR = f"GREATEST({ANSWER_ARRIVES_WITHIN_SECONDS} - CAST(EXTRACT(EPOCH FROM {_NOW} - s.pulled_at) AS float), 0)"

SUSPECT = f"(s.woken_at IS NOT NULL AND s.woken_at < {_NOW} - interval '15 seconds')"
ONLINE = (
    f"(CASE WHEN {_USES_STREAMS} THEN s.stream_seen_at > {_NOW} - interval '30 seconds'"
    f" ELSE COALESCE(GREATEST(s.seen_at, s.pulled_at) > {_NOW} - interval '2 minutes', false) END"
    f" AND NOT {SUSPECT})"
)
_QUIET_WHEN_PULLING = f"CASE WHEN NOT {_USES_STREAMS} AND s.pulled_at IS NOT NULL THEN interval '20 minutes' END"
SILENT = f"COALESCE({LAST_SEEN} < {_NOW} - COALESCE({_QUIET_WHEN_PULLING}, interval '3 minutes'), false)"


def missing_for(minutes: str) -> str:
    """In SQL, whether a phone was not heard of for so many minutes, and for longer than those that only pull pause."""
    return f"{LAST_SEEN} < {_NOW} - GREATEST(make_interval(mins => {minutes}), {_QUIET_WHEN_PULLING})"


# Whether phones had a gateway to speak to. While it is away, and for as long as they need to come back, none of them is
# called away for having been quiet.
WATCHED = (
    f"NOT EXISTS (SELECT FROM phone_watch w WHERE w.seen_at < {_NOW} - interval '8 seconds'"
    f" OR w.back_at > {_NOW} - interval '15 seconds')"
)

_WATCHING = text("""
    INSERT INTO phone_watch (id, seen_at) VALUES (1, clock_timestamp())
    ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp(),
        back_at = CASE WHEN phone_watch.seen_at < clock_timestamp() - interval '8 seconds'
                  THEN clock_timestamp() ELSE phone_watch.back_at END
""")

_SAW = text("""
    UPDATE device_state SET seen_at = clock_timestamp() WHERE device_id IN (
        SELECT device_id FROM device_state
        WHERE device_id = ANY(:ids) AND (seen_at IS NULL OR seen_at < clock_timestamp() - interval '10 seconds')
        ORDER BY device_id FOR NO KEY UPDATE SKIP LOCKED)
""")

_STREAMING = text(f"""
    UPDATE device_state s
    SET stream_seen_at = clock_timestamp(),
        woken_at = COALESCE(s.woken_at, CASE
            WHEN COALESCE(s.pulled_at < clock_timestamp() - make_interval(secs => u.waits), u.waits IS NOT NULL)
            THEN clock_timestamp() - make_interval(secs => u.waits) END)
    FROM {unnest(DeviceState.device_id, waits=Float())} WHERE s.device_id = u.device_id AND s.device_id IN (
        SELECT device_id FROM device_state WHERE device_id = ANY(:device_id)
        ORDER BY device_id FOR NO KEY UPDATE SKIP LOCKED)
""")  # noqa: S608 - names of columns


def mark_seen(session: Session, devices: Collection[int]) -> None:
    """Note an authenticated request of each phone; at most once in ten seconds a phone, skipping those locked."""
    if devices:
        session.execute(_SAW, {"ids": list(devices)})


def watching(session: Session) -> None:
    """Note that phones can reach the gateway."""
    session.execute(_WATCHING)


def streaming(session: Session, waits: Mapping[int, float | None]) -> None:
    """Note the phones whose streams a process holds, with the seconds since a wake that no pull has followed."""
    session.execute(_STREAMING, {"device_id": list(waits), "waits": list(waits.values())})


_LOCK_LOST = text(f"""
    SELECT s.device_id FROM device_state s
    WHERE s.device_id = ANY(:ids) AND s.woken_at IS NULL AND {_LOST_STREAM}
    ORDER BY s.device_id FOR NO KEY UPDATE SKIP LOCKED
""")  # noqa: S608 - a constant
_MISSED = text(f"""
    UPDATE device_state s
    SET woken_at = LEAST(GREATEST(u.since, s.stream_seen_at, s.pulled_at, s.next_slot_at, s.held_until),
                         clock_timestamp())
    FROM {unnest(DeviceState.device_id, since=DeviceState.woken_at)} WHERE s.device_id = u.device_id
""")  # noqa: S608 - names of columns


def lock_lost(session: Session, devices: Collection[int]) -> list[int]:
    """Those of the phones that used streams, have none, and have not missed anything yet; locked."""
    return list(session.scalars(_LOCK_LOST, {"ids": list(devices)}))


def missed(session: Session, since: Mapping[int, datetime | None]) -> None:
    """Note since when something waits for phones that no wake can reach: their 15 seconds begin then."""
    session.execute(_MISSED, {"device_id": list(since), "since": list(since.values())})


# Not skipped where locked: the first pull after it is answered by that it was opened.
_OPENED = text("""
    UPDATE device_state SET stream_opened_at = clock_timestamp(), stream_seen_at = clock_timestamp(),
                            seen_at = clock_timestamp()
    WHERE device_id IN (SELECT device_id FROM device_state WHERE device_id = ANY(:ids)
                        ORDER BY device_id FOR NO KEY UPDATE)
""")


def stream_opened(session: Session, tokens: list[bytes]) -> Sequence[int | Exception]:
    """Note that phones opened a stream, by the SHA-256 of their tokens; the outcome of one is its device."""
    devices = devices_by_token(session, tokens)
    known = {token: device["id"] for token, device in devices.items() if not device["removed"]}
    if known:
        session.execute(_OPENED, {"ids": sorted(set(known.values()))})
        outbound.announce(session, {device["user_id"] for device in devices.values()}, PHONES)
    return [known.get(token) or Unauthenticated() for token in tokens]
