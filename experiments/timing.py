"""Timing contenders against each other: each in a process of its own with as many threads as the others, asked in turn, A B A B."""

import multiprocessing
import os
import statistics
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tqdm

Run = Callable[[int], None]  # does the work so many times and waits until it is done


class Contender(NamedTuple):
    """What is timed: `make(**arguments)` gives its `Run`; it is called in the contender's own process."""

    name: str
    make: Callable[..., Run]
    arguments: Mapping[str, Any]


class Timing(NamedTuple):
    """Seconds for one piece of work, one number per round; or, in one line, why there are none."""

    seconds: tuple[float, ...] = ()
    error: str | None = None

    @property
    def median(self) -> float:
        """Median over rounds."""
        return statistics.median(self.seconds)


def ratio(a: Timing, b: Timing) -> tuple[float, float, float]:
    """Median, lowest and highest of a / b, round by round: what slows both of a round cancels."""
    ratios = [x / y for x, y in zip(a.seconds, b.seconds, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def measure(contenders: Sequence[Contender], threads: int, rounds: int, seconds: float) -> dict[str, Timing]:
    """The timing of each contender, by name: `rounds` rounds, in each of which all are asked in turn for about so many seconds of work."""
    context = multiprocessing.get_context('spawn')
    pipes, team = {}, []
    before = dict(os.environ)
    os.environ.update(dict.fromkeys(('NPROC', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'), str(threads)))
    try:
        for contender in contenders:
            pipes[contender.name], other = context.Pipe()
            team.append(context.Process(target=_serve, args=(other, contender, threads, seconds), daemon=True))
            team[-1].start()
            other.close()
            _answer(pipes[contender.name])  # one after the other, so that none is warmed up while another one is
    finally:
        os.environ.clear()
        os.environ.update(before)
    found: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    errors: dict[str, str] = {}
    for _ in range(rounds):
        for name, pipe in pipes.items():
            if name not in errors:
                value = _ask(pipe)
                if isinstance(value, str):
                    errors[name] = value
                else:
                    found[name].append(value)
    for process in team:
        process.terminate()
        process.join()
    return {name: Timing(error=errors[name]) if name in errors else Timing(tuple(times)) for name, times in found.items()}


def _answer(pipe: Any) -> None:
    """Wait until the contender is ready, or has failed, which it will say again when it is asked."""
    pipe.poll(None)


def _ask(pipe: Any) -> float | str:
    try:
        if pipe.poll():  # ready, or failed
            kind, value = pipe.recv()
            if kind == 'error':
                return value
        pipe.send('go')
        kind, value = pipe.recv()
    except (EOFError, OSError):
        return 'its process died (out of memory?)'
    return value


def _serve(pipe: Any, contender: Contender, threads: int, seconds: float) -> None:
    try:
        run = contender.make(threads=threads, **contender.arguments)
        run(1)
        started = time.perf_counter()
        run(1)
        count = max(1, round(seconds / (time.perf_counter() - started)))
        run(count)
        pipe.send(('ready', None))
        while pipe.recv():
            started = time.perf_counter()
            run(count)
            pipe.send(('time', (time.perf_counter() - started) / count))
    except ImportError as e:
        pipe.send(('error', f'{e.name} is not installed'))
    except Exception as e:  # whatever a peer cannot do on this machine stands in the table
        traceback.print_exc()
        pipe.send(('error', f'{type(e).__name__}: {e}'.splitlines()[0][:200]))


def progress(work: Sequence[Any], what: str) -> Any:
    """A progress bar on standard error over pieces of work."""
    return tqdm.tqdm(work, desc=what, leave=False, disable=None)
