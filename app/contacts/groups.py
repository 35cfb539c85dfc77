"""Groups of contacts, and who is in them."""

from collections.abc import Collection, Sequence

from sqlalchemy import delete, func, select, text
from sqlalchemy.orm import Session

from app.contacts.models import Contact, ContactGroup, ContactGroupMember
from app.contacts.schemas import GroupBrief, GroupChange, GroupOut
from app.core.arrays import unnest
from app.core.errors import Invalid, NotFound
from app.core.owned import find_owned, rows_of_page
from app.core.pages import Page, Paging
from app.core.sql_like import containing
from app.core.validation import row_id

MODEL = "ContactGroup"


def find(session: Session, user_id: int, group: str, *, lock: bool = False) -> ContactGroup:
    """The user's group, locked where it is to be changed. Raises `NotFound`."""
    return find_owned(session, ContactGroup, MODEL, user_id, group, lock=lock)


def owned(session: Session, user_id: int, ids: Collection[int]) -> set[int]:
    """Which of the ids are groups of the user. They cannot be deleted before this transaction is over."""
    query = (
        select(ContactGroup.id)
        .where(ContactGroup.user_id == user_id, ContactGroup.id.in_(set(ids)))
        .order_by(ContactGroup.id)
        .with_for_update(read=True, key_share=True)
    )
    return set(session.scalars(query))


# Number and name of the contacts of the groups `group_id`, each once, group after group; at most `most`.
MEMBERS = f"""
    SELECT c.phone_number, c.name
    FROM (SELECT m.contact_id, min(u.place) AS place
          FROM {unnest(ContactGroupMember.group_id, ordinality="place")}
          JOIN contact_group_members m ON m.group_id = u.group_id
          GROUP BY m.contact_id) AS member
    JOIN contacts c ON c.id = member.contact_id
    ORDER BY member.place, c.id LIMIT :most
"""  # noqa: S608 - names of columns
_MEMBERS = text(MEMBERS)


def members(session: Session, group_ids: Sequence[int], most: int) -> list[tuple[str, str | None]]:
    """Number and name of the groups' contacts, each once, group after group; at most `most`.

    Whose groups they are, `owned` says.
    """
    values = {"group_id": list(group_ids), "most": most}
    return [(row.phone_number, row.name) for row in session.execute(_MEMBERS, values)]


def page(session: Session, user_id: int, search: str | None, paging: Paging) -> Page[GroupOut]:
    """A page of the user's groups, newest first, each with how many contacts it has."""
    conditions = [ContactGroup.user_id == user_id]
    if search:
        conditions.append(ContactGroup.name.ilike(containing(search)))
    found, total = rows_of_page(session, ContactGroup, conditions, ContactGroup.id.desc(), paging)
    return Page(**paging.fields(shown(session, found), total))


def names(session: Session, user_id: int) -> list[GroupBrief]:
    """All of the user's groups, by name."""
    return [GroupBrief(id=group.id, name=group.name) for group in _every(session, user_id)]


def every(session: Session, user_id: int) -> list[GroupOut]:
    """As `names`, each with how many contacts it has."""
    return shown(session, _every(session, user_id))


def _every(session: Session, user_id: int) -> Sequence[ContactGroup]:
    query = select(ContactGroup).where(ContactGroup.user_id == user_id)
    return session.scalars(query.order_by(func.lower(ContactGroup.name), ContactGroup.id)).all()


def shown(session: Session, found: Sequence[ContactGroup]) -> list[GroupOut]:
    """Groups as they are shown."""
    counted = (
        select(ContactGroupMember.group_id, func.count())
        .where(ContactGroupMember.group_id.in_([group.id for group in found]))
        .group_by(ContactGroupMember.group_id)
    )
    counts = {row[0]: row[1] for row in session.execute(counted)}
    return [
        GroupOut(
            id=group.id,
            name=group.name,
            contacts_count=counts.get(group.id, 0),
            created_at=group.created_at,
            updated_at=group.updated_at,
        )
        for group in found
    ]


def of_contacts(session: Session, contact_ids: Collection[int]) -> dict[int, list[GroupBrief]]:
    """The groups that each contact is in."""
    query = (
        select(ContactGroupMember.contact_id, ContactGroup.id, ContactGroup.name)
        .join(ContactGroup, ContactGroup.id == ContactGroupMember.group_id)
        .where(ContactGroupMember.contact_id.in_(contact_ids))
        .order_by(ContactGroup.id)
    )
    found: dict[int, list[GroupBrief]] = {number: [] for number in contact_ids}
    for contact_id, group_id, name in session.execute(query):
        found[contact_id].append(GroupBrief(id=group_id, name=name))
    return found


_ADD = text(f"""
    INSERT INTO contact_group_members (group_id, contact_id)
    SELECT g.group_id, c.contact_id
    FROM {unnest(ContactGroupMember.group_id, alias="g")}, {unnest(ContactGroupMember.contact_id, alias="c")}
    ORDER BY g.group_id, c.contact_id
    ON CONFLICT DO NOTHING RETURNING contact_id
""")  # noqa: S608 - names of columns


def add(session: Session, user_id: int, group: ContactGroup, contact_ids: Sequence[int]) -> int:
    """Put contacts into a group; how many were not in it before. Raises `Invalid` for those that the user has not."""
    query = (
        select(Contact.id)
        .where(Contact.user_id == user_id, Contact.id.in_(set(contact_ids)))
        .order_by(Contact.id)
        .with_for_update(read=True, key_share=True)
    )
    known = set(session.scalars(query))
    if not owned(session, user_id, [group.id]):
        raise NotFound(MODEL)
    refuse_unknown("contact_ids", contact_ids, known)
    return len(session.execute(_ADD, {"group_id": [group.id], "contact_id": sorted(known)}).all())


def set_groups(session: Session, user_id: int, contact_id: int, group_ids: Sequence[int]) -> None:
    """Put one contact into these groups and no others. Raises `Invalid` for groups that the user has not.

    The groups are locked before any membership, as deleting a group does.
    """
    refuse_unknown("group_ids", group_ids, owned(session, user_id, group_ids))
    session.execute(delete(ContactGroupMember).where(ContactGroupMember.contact_id == contact_id))
    session.execute(_ADD, {"group_id": sorted(set(group_ids)), "contact_id": [contact_id]})


def refuse_unknown(field: str, ids: Sequence[int], known: Collection[int]) -> None:
    """Raise `Invalid` for the ids that are not among the known, by their place in the request."""
    name = field.replace("_", " ")
    wrong = {
        f"{field}.{place}": [f"The selected {name}.{place} is invalid."]
        for place, number in enumerate(ids)
        if number not in known
    }
    if wrong:
        raise Invalid(wrong)


def remove(session: Session, group: ContactGroup, contact_id: str) -> None:
    """Take a contact out of a group. Raises `NotFound` where it is not in it."""
    statement = (
        delete(ContactGroupMember)
        .where(ContactGroupMember.group_id == group.id, ContactGroupMember.contact_id == (row_id(contact_id) or 0))
        .returning(ContactGroupMember.contact_id)
    )
    if session.execute(statement).first() is None:
        raise NotFound("Contact")


def change(session: Session, group: ContactGroup, wanted: GroupChange) -> None:
    """Rename the group where the request has a name."""
    if "name" in wanted.model_fields_set:
        group.name = wanted.name
        group.updated_at = session.execute(select(func.clock_timestamp())).scalar_one()
        session.flush()
