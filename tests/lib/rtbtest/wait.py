# SPDX-License-Identifier: MIT
"""Deadlines. Nothing in the tests sleeps to wait: it waits for something observed, and fails when the time is up."""

import os
import time

# Generous: sanitizers on two busy cores. Only a test that fails ever waits so long.
DEADLINE = float(os.environ.get("RTB_TEST_DEADLINE_S", "60"))


class Deadline:
    def __init__(self, seconds=DEADLINE):
        self.end = time.monotonic() + seconds

    def left(self, what):
        """Seconds left; AssertionError(what) when there are none."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise AssertionError(f"deadline: {what() if callable(what) else what}")
        return left


def until(condition, what, seconds=DEADLINE, pause=0.02):
    """Polls a state that gives no event of its own (another process's counter, a file). Returns what is true."""
    end = Deadline(seconds)
    while True:
        value = condition()
        if value:
            return value
        time.sleep(min(pause, end.left(what)))
