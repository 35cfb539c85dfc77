"""The `smsfleet` command. Each command imports what it needs, so that the first letter of help comes at once."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from app.core import caller
from app.features import PACKAGES
from app.local.errors import LocalError


class _Commands(TyperGroup):
    """Ends a command with a line that an operator understands, where it is his settings or machine that are wrong."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # who read the output has had enough
            raise
        except (LocalError, OSError) as error:  # OSError: a full disk, a folder that may not be written
            _refuse(str(error))
        except Exception as error:
            if (reason := _reason(error)) is None:
                raise
            _refuse(reason)


def _reason(error: Exception) -> str | None:
    """Why the command failed, unless that is for a developer."""
    import psycopg
    from pydantic import ValidationError

    from app.core.settings import Settings, explain
    from app.migrations.revisions import refuse_older

    if isinstance(error, ValidationError) and error.title == Settings.__name__:
        return explain(error)
    told = getattr(error, "orig", error)  # by the database, under SQLAlchemy's error
    if isinstance(told, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
        refuse_older()
    if isinstance(told, psycopg.ProgrammingError) and "percent-encoded" in str(told):  # which repeats the password
        return "SMSFLEET_DATABASE_URL cannot be made out: a % in its password is written as %25"
    if isinstance(told, psycopg.OperationalError) and told.sqlstate is None:
        return f"the database cannot be reached: {str(told).strip()}"
    return None


app = typer.Typer(
    name="smsfleet",
    cls=_Commands,
    help="An SMS gateway made of your own phones.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"smsfleet {version('smsfleet')}")
        raise typer.Exit


@app.callback()
def _prepare(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    from app.local.environment import explain_unknown, load_dotenv, unknown_names

    caller.begin(caller.Caller("command"))
    if context.invoked_subcommand != "demo":  # which has nothing of the operator's own installation
        load_dotenv()
    for name in unknown_names():
        print(explain_unknown(name), file=sys.stderr)
        del os.environ[name]  # told once, not by each process that is started


@app.command()
def up(
    lan: Annotated[
        bool, typer.Option("--lan", help="Listen on the network, so that phones on it can be paired.")
    ] = False,
) -> None:
    """Run the gateway and everything it needs in the foreground, until Ctrl-C."""
    from app.core.settings import Settings
    from app.local.exposure import statements
    from app.local.installation import Installation, Interrupted

    try:
        installation = Installation(Settings().data_dir, lan=lan)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: installation.request_stop())
        installation.start()
    except Interrupted:
        raise typer.Exit(0) from None
    try:
        if installation.flower_url:
            password = "" if installation.settings.flower_password else f", password in {installation.flower_file}"
            print(f"Flower shows the tasks at {installation.flower_url}, user smsfleet{password}")
        for sentence in statements(installation.settings):
            print(sentence)
        print(f"Sign in, once and within ten minutes: {installation.sign_in_link()}")
        print(f"smsfleet is ready at {installation.url}", flush=True)
        installation.wait()
    finally:
        installation.stop()


@app.command()
def migrate() -> None:
    """Update the database to the newest schema."""
    attach(broker=False)
    from alembic.util import CommandError

    from app.migrations.config import migrate

    try:
        migrate()
    except CommandError as error:
        _refuse(str(error))


BackupFile = Annotated[Path, typer.Argument(help="The file, such as smsfleet.zip; - for standard output.")]


@app.command()
def backup(file: BackupFile) -> None:
    """Write a backup of everything, while the gateway runs or when it is stopped."""
    from app.checks.finding import size
    from app.local import backup

    for number in (signal.SIGTERM, signal.SIGHUP):  # what was written until then must not stay
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with _database():
        to_output = str(file) == "-"
        manifest = backup.write(sys.stdout.buffer) if to_output else backup.take(file)
    for name in manifest.missing:
        print(f"the app file {name} is missing, here and in the backup", file=sys.stderr)
    rows = sum(table.rows for table in manifest.tables.values())
    written = "" if to_output else f", {size(file.stat().st_size)}"
    print(f"{rows} rows as of {manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC{written}", file=sys.stderr)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="A file of `backup`.")],
    key: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, readable=True, help="The file with the secret key, if encrypted."),
    ] = None,
    keep_scheduled: Annotated[
        bool, typer.Option("--keep-scheduled", help="Messages scheduled for later than now stay scheduled.")
    ] = False,
    send_again: Annotated[
        bool,
        typer.Option("--send-again", help="Nothing was sent since the backup: let everything go on where it stood."),
    ] = False,
) -> None:
    """Restore a backup into an empty installation that is stopped, or an empty database.

    What was pending may have been sent since the backup. It fails, marked as uncertain, and campaigns are paused.
    """
    from app.local import restore

    with _database(empty=True):
        done = restore.restore(file, key=key, send_again=send_again, keep_scheduled=keep_scheduled)
    print(f"{done.rows} rows restored, as of {done.manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC")
    if done.uncertain:
        print(f"{done.uncertain} messages were pending, may have been sent since, and are marked as failed, uncertain")
    if done.halted:
        print(f"{done.halted} campaigns wait for their owners to start or resume them")


@contextmanager
def _database(*, empty: bool = False) -> Iterator[None]:
    """The database of the installation: the operator's own, that of the one that runs, or the embedded one alone."""
    from app.core.logs import configure_logging
    from app.core.settings import get_settings
    from app.local import offline
    from app.local.folder import find_running

    settings = get_settings()
    if settings.database_url is not None or (not empty and find_running(settings.data_dir) is not None):
        attach(broker=False)
        yield
        return
    if not empty and not settings.data_dir.is_dir():
        attach(broker=False)  # which says that nothing runs there
    with offline.database(settings.data_dir, create=empty):
        configure_logging()
        yield


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report for programs.")] = False,
    share: Annotated[
        bool, typer.Option("--share", help="Leave out secrets, addresses and phone numbers, to show others.")
    ] = False,
) -> None:
    """Check the running installation. The exit code is 0, 1 for warnings, or 2 where something is broken."""
    from app.core.settings import get_settings
    from app.local import doctor
    from app.local.folder import find_running

    data_dir = get_settings().data_dir
    attach()
    settings = get_settings()
    findings = doctor.examine(settings, find_running(data_dir))
    report = doctor.as_json(findings) if as_json else doctor.as_text(findings)
    print(doctor.shareable(report, settings) if share else report)
    raise typer.Exit(doctor.worst(findings).exit_code)


@app.command()
def demo(
    messages: Annotated[int, typer.Option(min=1, max=100_000, help="Messages in the campaign.")] = 1000,
    phones: Annotated[int, typer.Option(min=1, max=1000, help="Virtual phones.")] = 5,
    keep: Annotated[bool, typer.Option("--keep", help="Stay up afterwards, until Ctrl-C.")] = False,
) -> None:
    """Run a gateway with virtual phones, send a campaign through it, and print the results."""
    from app.local.demo import run_demo

    complete = run_demo(messages, phones, keep=keep)
    raise typer.Exit(0 if complete else 1)


_ELSEWHERE: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True}


def _group(package: str, name: str) -> Callable[[typer.Context], None]:
    """A group of commands that a package defines."""

    def run(context: typer.Context) -> None:
        _attach_unless_help(context.args)
        commands = import_module(f"app.{package}.commands")
        getattr(commands, f"{name}_app")(context.args, prog_name=f"smsfleet {name}")

    return run


for _package in PACKAGES:
    for _name, _help in _package.commands.items():
        app.command(_name, help=_help, context_settings=_ELSEWHERE, add_help_option=False)(_group(_package.name, _name))


@app.command(context_settings=_ELSEWHERE, add_help_option=False)
def phones(context: typer.Context) -> None:
    """Pair a phone, or run simulated phones to try a gateway."""
    from phones.simulate import default_state, phones_app

    given = context.args
    if given[:1] == ["remove"] and not any(arg == "--help" or arg.startswith("--state") for arg in given):
        given = [*given, "--state", str(default_state())]  # which attaching may change
    if given[:1] in (["pair"], ["remove"]):
        _attach_unless_help(given)
    from app.devices.commands import pair
    from app.local.simulated import remove

    phones_app.command()(pair)
    phones_app.command()(remove)
    if given[:1] == ["simulate"] and not any(arg == "--help" or arg.startswith("--server") for arg in given):
        given = [*given, "--server", _running_address()]
    phones_app(given, prog_name="smsfleet phones")


@app.command(context_settings=_ELSEWHERE, add_help_option=False)
def campaign(context: typer.Context) -> None:
    """Send a file of recipients as a campaign through a running gateway, here or elsewhere."""
    from app.local.campaigns import campaign_app

    given = context.args
    asks = not given or "--help" in given or any(arg.startswith("--url") for arg in given)
    if not asks and "SMSFLEET_URL" not in os.environ:
        given = [*given, "--url", _running_address()]
    campaign_app(given, prog_name="smsfleet campaign")


def _running_address() -> str:
    """The address of the gateway that runs from this data folder."""
    from app.core.settings import get_settings
    from app.local.folder import find_running

    data_dir = get_settings().data_dir
    runtime = find_running(data_dir)
    if runtime is None:
        _refuse(
            f"smsfleet is not running from {Path(data_dir).resolve()}: start it with `make up`, or give the address of"
            " another gateway with --server (--url for a campaign)"
        )
    return runtime.url


def _attach_unless_help(args: list[str]) -> None:
    if args and "--help" not in args:
        attach(broker=False)


def attach(*, broker: bool = True) -> None:
    """Point the settings at the installation that runs from the data folder; end the command where none does.

    Where the operator names the database (and the broker, for a command that needs it), that is the installation.
    """
    from app.core.logs import configure_logging
    from app.core.settings import get_settings
    from app.local.folder import find_running

    settings = get_settings()
    runtime = find_running(settings.data_dir)
    database = settings.database_url.get_secret_value() if settings.database_url else None
    is_named = database and (settings.redis_url or not broker)
    if not is_named or (runtime is not None and runtime.database_url == database):
        if runtime is None or not runtime.settings:  # or it is of an earlier version
            _refuse(
                f"smsfleet is not running from {Path(settings.data_dir).resolve()}: start it with `make up`,"
                " or set SMSFLEET_DATA_DIR"
            )
        for name, value in runtime.settings.items():
            os.environ.setdefault(name, value)
        os.environ["SMSFLEET_DATA_DIR"] = runtime.settings["SMSFLEET_DATA_DIR"]  # of its processes: as root another one
        get_settings.cache_clear()
    configure_logging()


def _refuse(reason: str) -> NoReturn:
    print(reason, file=sys.stderr)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
