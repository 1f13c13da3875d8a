"""How many steps a compiled call holds, and traces of a few of them."""

import math
import time

import jax

_CHUNK_SECONDS = 1.0  # how long one compiled call should last: progress stays live, dispatch costs nothing
_FIRST_STEPS = 4  # of a call that compiles, whose time says nothing
_TRACED_STEPS = 8


class Pace:
    """How many steps the next compiled call should hold: about a second's worth, as measured so far."""

    def __init__(self):
        self.per_step = math.inf
        self.warm = False
        self.started = 0.0
        self.most = math.inf

    def next(self, left: int) -> int:
        """How many of the steps that are left, at least one; its time begins."""
        self.started = time.perf_counter()
        steps = int(_CHUNK_SECONDS / self.per_step) if self.per_step < math.inf else _FIRST_STEPS
        return max(1, int(min(left, steps, self.most)))

    def finished(self, count: int) -> None:
        """Those of the last call are done, so many."""
        if self.warm:
            self.per_step = (time.perf_counter() - self.started) / count
        self.warm = True


class Trace:
    """Writes a trace of the call after the first, which compiles, into a folder; None: does nothing."""

    def __init__(self, folder: str | None):
        self._folder, self._heard, self._running = folder, 0, False

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        if self._running:
            jax.profiler.stop_trace()
            self._running = False

    def passed(self, pace: Pace) -> None:
        """A call has ended."""
        self._heard += 1
        if self._folder and self._heard == 1:
            jax.profiler.start_trace(self._folder)
            pace.most, self._running = _TRACED_STEPS, True
        elif self._running:
            self.__exit__()
            pace.most = math.inf
