"""Whole commands, as a user runs them: how long until help, until the first training step, until the end, and in how much memory."""

import os
import pty
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

COLUMNS = ('command', 'programs', 'seconds', 'of the row above', 'largest process')
EXPERIMENTS = ('weight_sharing', 'filter_size', 'dense_replacement')
_ONE_SEED = ('--arms=conv_gmp', '--epochs=200')


class Ran(NamedTuple):
    """A command that ran: seconds in all and until its progress bar first moved (None: never), bytes of its largest process."""

    seconds: float
    first_step: float | None
    memory: int


def ran(module: str, *args: str, cache: str, workdir: str | None) -> Ran:
    """Run `python -m module args` on a terminal of its own, with compiled programs kept in `cache`.

    Raises:
      RuntimeError: it ended with another status than 0; the last line that it printed is told.
    """
    command = [sys.executable, '-m', module, *args, *([] if workdir is None else [f'--workdir={workdir}'])]
    terminal, inside = pty.openpty()
    started, first, text = time.perf_counter(), None, b''
    environment = os.environ | {'XDG_CACHE_HOME': cache, 'COLUMNS': '100'}
    with subprocess.Popen(command, stdout=inside, stderr=inside, env=environment) as process:
        os.close(inside)
        while chunk := _read(terminal):
            text += chunk
            if first is None and any(float(share) > 0 for share in re.findall(rb' ([0-9]+)%', text)):
                first = time.perf_counter() - started
        os.close(terminal)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f'{module} ended with {process.returncode}: {text.decode().strip().splitlines()[-1][:200]}')
    return Ran(time.perf_counter() - started, first, usage.ru_maxrss * 1024)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 2**16)
    except OSError:  # what Linux says when nobody has the other end any more
        return b''


def commands(quick: bool) -> list[dict[str, Any]]:
    """A row of `COLUMNS` for every command; quick: without the three whole experiments."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix='cnn_research-benchmark-') as folder:

        def add(what: str, programs: str, done: Ran, seconds: float | None, above: float | None = None) -> None:
            ratio = None if above is None or seconds is None else seconds / above
            rows.append({'what': what, 'programs': programs, 'seconds': seconds, 'ratio': ratio, 'memory': done.memory, 'error': None})

        def run(name: str, *args: str, cache: str = folder) -> Ran:
            with tempfile.TemporaryDirectory(dir=folder) as workdir:
                return ran(f'experiments.{name}', *args, cache=cache, workdir=str(Path(workdir) / 'runs'))

        done = ran('experiments.weight_sharing', '--help', cache=folder, workdir=None)
        add('weight_sharing --help', 'none', done, done.seconds)
        done = run('weight_sharing', '--arms=conv_gmp', '--seeds=1', '--workers=1')
        add('weight_sharing, until the first step', 'compiled', done, done.first_step)
        again = run('weight_sharing', '--arms=conv_gmp', '--seeds=1', '--workers=1')
        add('weight_sharing, until the first step', 'kept', again, again.first_step, done.first_step)
        run('weight_sharing', *_ONE_SEED, '--seeds=1', '--workers=1')
        one = run('weight_sharing', *_ONE_SEED, '--seeds=1', '--workers=1')
        add(f'weight_sharing {" ".join(_ONE_SEED)}, one seed, one worker', 'kept', one, one.seconds)
        two = run('weight_sharing', *_ONE_SEED, '--seeds=2', '--workers=2')
        add(f'weight_sharing {" ".join(_ONE_SEED)}, two seeds, two workers', 'kept', two, two.seconds, one.seconds)
        for name in () if quick else EXPERIMENTS:
            with tempfile.TemporaryDirectory(dir=folder) as cache:
                done = run(name, cache=cache)
                add(name, 'compiled', done, done.seconds)
                again = run(name, cache=cache)
                add(name, 'kept', again, again.seconds, done.seconds)
    return rows
