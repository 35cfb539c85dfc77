"""`smsfleet release`: what an operator does with versions of the phone app."""

from pathlib import Path
from typing import Annotated

import typer

from app.core.database import transaction
from app.core.envelope import timestamp
from app.releases import storage
from app.releases.models import Release

release_app = typer.Typer(help="Versions of the phone app.", no_args_is_help=True, add_completion=False)

# What Android takes.
_HIGHEST_CODE = 2_100_000_000
_NAME_LENGTH = 64


@release_app.command("publish")
def publish(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="The APK.")],
    version_name: Annotated[str, typer.Option(help="Shown to people, such as 1.0.1.")],
    version_code: Annotated[int, typer.Option(min=1, max=_HIGHEST_CODE, help="The highest active one is offered.")],
    notes: Annotated[str, typer.Option(help="What is new.")] = "",
    mandatory: Annotated[bool, typer.Option("--mandatory", help="The app must be updated before further use.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Publish a version of the phone app for all phones."""
    name = version_name.strip()
    if not name or len(name) > _NAME_LENGTH:
        raise typer.BadParameter(f"a version name has 1 to {_NAME_LENGTH} characters")
    if not storage.is_apk(file):
        raise typer.BadParameter(f"{file} is not an APK (an archive with an AndroidManifest.xml)")
    with file.open("rb") as source:
        sha256, size = storage.store(source)
    release = Release(
        version_name=name, version_code=version_code, notes=notes, mandatory=mandatory, sha256=sha256, size=size
    )
    with transaction() as session:
        published = storage.publish(session, release)
    if not published:
        typer.echo(f"version code {version_code} is already published; raise it, or withdraw that release", err=True)
        raise typer.Exit(1)
    typer.echo(f"release {release.id} published: {name} ({version_code}), {size} bytes, SHA-256 {sha256}")


@release_app.command("list")
def list_releases() -> None:
    """List all versions, newest first."""
    with transaction() as session:
        offered = storage.latest(session)
        for release in storage.releases(session):
            state = f"withdrawn {timestamp(release.withdrawn_at)}" if release.withdrawn_at else "active"
            if offered is not None and release.id == offered.id:
                state = "offered"
            must = "  mandatory" if release.mandatory else ""
            typer.echo(
                f"{release.id}  {release.version_name} ({release.version_code})  {release.size} bytes  {state}{must}"
            )


@release_app.command("withdraw")
def withdraw(release_id: Annotated[int, typer.Argument(metavar="ID")]) -> None:
    """Stop offering a version. Phones that have it keep it."""
    with transaction() as session:
        withdrawn = storage.withdraw(session, release_id)
    if not withdrawn:
        typer.echo(f"there is no active release {release_id}", err=True)
        raise typer.Exit(1)
    typer.echo(f"release {release_id} withdrawn")
