"""`smsfleet phones remove`: what `phones simulate` left in an installation."""

import typer

from app.core.database import transaction
from app.devices import ownership
from phones.memory import FolderError
from phones.simulate import State, end_and_hold


def remove(state: State) -> None:
    """Remove the simulated phones: end them if they run, and take their devices and private tokens from the gateway."""
    if not state.is_dir():
        typer.echo(f"there are no simulated phones in {state}")
        return
    try:
        memory = end_and_hold(state)
    except FolderError as error:
        typer.echo(f"smsfleet: {error}", err=True)
        raise typer.Exit(1) from error
    try:
        with transaction() as session:
            removed = ownership.remove_enrolled(session, [phone.device_id for phone in memory.phones.values()])
        kept = len(memory.phones)
        memory.forget()
    finally:
        memory.close()
    missing = f"; {kept - removed} were not there" if kept > removed else ""
    typer.echo(f"{removed} simulated phones are removed{missing}")
