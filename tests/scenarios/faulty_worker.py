"""A worker that kills itself with SIGKILL at a named fault point: `python -m tests.scenarios.faulty_worker POINT`."""

from __future__ import annotations

import os
import signal
import sys

from bot.logs import configure_logs
from bot.up import settings_of
from bot.work import work


def main() -> int:
    point = sys.argv[1]

    def fault(reached: str) -> None:
        if reached == point:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = settings_of(None, None)
    configure_logs(settings.log_format, "worker")
    return work(settings, fault_point=fault)


if __name__ == "__main__":
    sys.exit(main())
