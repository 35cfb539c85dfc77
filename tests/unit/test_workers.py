"""What a worker loads is paid for in each of its processes."""

import os
import subprocess
import sys


def test_workers_load_no_web_framework() -> None:
    tasks = "import workers.app, workers.dispatch, workers.upkeep, workers.webhooks"
    program = f"import sys\n{tasks}\nprint({'fastapi', 'starlette'} & sys.modules.keys())"
    somewhere = {"SMSFLEET_REDIS_URL": "redis://127.0.0.1:1/0", "SMSFLEET_DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}
    ran = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **somewhere}, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "set()\n"
