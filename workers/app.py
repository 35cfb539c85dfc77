"""The Celery application of the workers and of beat: `celery -A workers.app worker -Q dispatch`."""

from datetime import timedelta
from importlib import import_module
from typing import Any

from celery.signals import celeryd_after_setup, celeryd_init, setup_logging

from app.core import tracing
from app.core.logs import configure_logging
from app.core.outbound import CLOCKS_DIFFER_SECONDS, SWEEP_SECONDS
from app.core.queue import celery_app
from app.core.task_names import TaskName
from app.features import PACKAGES
from app.migrations.revisions import refuse_older
from workers import pulse

app = celery_app()
app.conf.imports = tuple(package.tasks for package in PACKAGES if package.tasks)
pulse.register()
app.conf.beat_scheduler = "workers.beat:Scheduler"

_EVERY_SECONDS = {
    TaskName.SWEEP: SWEEP_SECONDS,
    TaskName.RELEASE: 1.0,
    # Campaigns with a rate have their share each second.
    TaskName.CAMPAIGNS: 1.0,
    TaskName.FOLD: 5.0,
    TaskName.ANALYZE: 5.0,
    TaskName.VACUUM: 5.0,
    TaskName.MARK: 1.0,
    # A phone that died is noticed after 15 seconds, and what it had is to be on air elsewhere within 20.
    TaskName.MOVE: 2.0,
    TaskName.EXPIRE: 10.0,
    TaskName.CLEAN: 60.0,
    TaskName.ALERT: 30.0,
    TaskName.ERASE: 60.0,
    TaskName.RETAIN: 60.0,
    TaskName.QUIET: 30.0,
}
# A tick that nobody took by the next one is worth nothing, as far as clocks can tell; a second beat only makes some
# come twice.
app.conf.beat_schedule = {
    name.value: {
        "task": name.value,
        "schedule": timedelta(seconds=seconds),
        "options": {"queue": name.queue.value, "expires": seconds + CLOCKS_DIFFER_SECONDS},
    }
    for name, seconds in _EVERY_SECONDS.items()
}


@celeryd_after_setup.connect
def _keep_ticks_quiet(instance: Any, **_: Any) -> None:
    """Of a tick that did nothing, as most do, Flower hears nothing; of the others `workers.base` tells it."""
    for name in app.conf.beat_schedule:
        instance.app.tasks[name].send_events = False


@celeryd_init.connect
def _make_no_queues_for_delays(**_: Any) -> None:
    """Nothing is sent with an ETA, for which a worker would make 28 queues on RabbitMQ."""
    steps = import_module("celery.worker.consumer").Consumer.Blueprint.default_steps
    steps.remove("celery.worker.consumer.delayed_delivery:DelayedDelivery")


@celeryd_init.connect
def _refuse_to_start(**_: Any) -> None:
    refuse_older()
    tracing.refuse_without_packages()


@setup_logging.connect
def _logging(**_: Any) -> None:
    configure_logging()
