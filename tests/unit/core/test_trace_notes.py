"""What is noted for traces: of messages only those whose trace is kept, of nudges the first cause."""

from sqlalchemy.orm import Session

from app.core import trace_notes
from app.core.task_names import TaskName
from app.core.trace_notes import Cause, Notes

KEPT, UNKEPT = (f"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}" for flags in ("01", "00"))


def test_the_trace_of_a_message_is_remembered_if_it_is_kept() -> None:
    with Session() as session:
        trace_notes.remember(session, 1, KEPT)
        trace_notes.remember(session, 2, UNKEPT)
        assert trace_notes.notes_of(session).messages == {1: KEPT}


def test_a_nudge_goes_on_with_the_first_that_gave_it_and_waits_for_its_turn() -> None:
    deliver, route = (TaskName.DELIVER, None), (TaskName.ROUTE, 1)
    notes = Notes()
    notes.add(Notes({deliver: Cause(KEPT, 1)}, {1: KEPT}))
    notes.add(Notes({deliver: Cause(None, 2), route: Cause(KEPT, None)}))
    taken = notes.take({deliver})
    assert (taken.causes, taken.messages) == ({deliver: Cause(KEPT, 1)}, {1: KEPT})
    assert (notes.causes, notes.waiting) == ({route: Cause(KEPT, None)}, False)
