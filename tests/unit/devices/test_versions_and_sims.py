"""What apps of which version can do, and SIM cards as they are told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.devices import sims, versions
from app.messages.dispatch import routing


@pytest.mark.parametrize(
    ("agent", "version"),
    [
        ("me.capcom.smsgateway/1.68.0", "1.68.0"),
        ("me.capcom.smsgateway/1.68.0 (Android 14)", "1.68.0"),
        ("me.capcom.smsgateway/", None),
        ("okhttp/4.10.0", None),
        ("", None),
        (None, None),
    ],
)
def test_the_version_in_a_user_agent(agent, version):
    assert versions.from_user_agent(agent) == version


@pytest.mark.parametrize(
    ("version", "can"),
    [
        ("1.67.0", True),
        ("1.67", True),
        ("1.100.0", True),
        ("2.0", True),
        ("1.66.9", False),
        ("x", False),
        (None, False),
    ],
)
def test_cancelling_is_understood_from_1_67_on(version, can):
    assert versions.can_cancel(version) is can


@given(st.text())
def test_any_text_has_a_version_or_none(text):
    assert all(part >= 0 for part in versions.parse(text))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.sampled_from(["slotIndex", "phoneNumber", "iccid", "x"]), children, max_size=4)
    ),
)


@given(json_values)
def test_whatever_is_told_of_cards_can_be_kept_and_compared(told):
    cards = sims.read(told)
    assert all(0 <= card["slot_index"] < 10 for card in cards)
    assert sims.masked(sims.masked(cards)) == sims.masked(cards)
    assert sims.merged(cards, sims.masked(cards)) == cards
    assert set(sims.slots(cards)) <= {0, 1, 2}


@given(
    st.dictionaries(st.integers(1, 50), st.integers(1, 30), min_size=1, max_size=10),
    st.integers(0, 60),
    st.integers(0, 100),
)
def test_turns_fill_only_room_and_are_equal_for_equal_room(rooms, last, wanted):
    count = min(wanted, sum(rooms.values()))
    turns = routing.take_turns(rooms, last, count)
    shares = {device: turns.count(device) for device in rooms}
    assert len(turns) == count
    assert all(shares[device] <= room for device, room in rooms.items())
    open_shares = [shares[device] for device, room in rooms.items() if shares[device] < room]
    assert not open_shares or max(open_shares) - min(open_shares) <= 1
