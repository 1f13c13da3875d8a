"""Whole commands, as a user runs them: how long until help, until the first training step, until the end, and in how much memory."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Any, NamedTuple

from cnn_research import cost
from cnn_research.report import table

COLUMNS = ('command', 'programs', 'seconds', 'of the row above', 'largest process')
EXPERIMENTS = ('weight_sharing', 'filter_size', 'dense_replacement')
_ONE_SEED = ('--arms=conv_gmp', '--epochs=200')


class Ran(NamedTuple):
    """A command that ran: seconds in all and until its progress bar first moved (None: never), bytes of its largest process."""

    seconds: float
    first_step: float | None
    memory: int


# Starts a command and tells, in kB, how large its largest process was. A process of its own, with nothing loaded: a child counts what its
# parent was before it.
_STARTER = (
    'import os, resource, subprocess, sys; status = subprocess.call(sys.argv[2:]);'
    'os.write(int(sys.argv[1]), str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss).encode()); sys.exit(status % 256)'
)


def ran(module: str, *args: str, folder: str, cache: str, workdir: str | None) -> Ran:
    """Run `python -m module args` on a terminal of its own, with compiled programs kept in `cache`, and fonts in `folder`.

    Raises:
      RuntimeError: it ended with another status than 0; the last line that it printed is told.
    """
    command = [sys.executable, '-m', module, *args, *([] if workdir is None else [f'--workdir={workdir}'])]
    (terminal, inside), (told, telling) = pty.openpty(), os.pipe()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack('4H', 30, 100, 0, 0))  # a terminal without a size shows no progress
    started, first, text = time.perf_counter(), None, b''
    environment = os.environ | {'XDG_CACHE_HOME': cache, 'MPLCONFIGDIR': f'{folder}/matplotlib'}
    starter = [sys.executable, '-S', '-c', _STARTER, str(telling), *command]
    with subprocess.Popen(starter, stdout=inside, stderr=inside, env=environment, pass_fds=(telling,)) as process:
        os.close(inside)
        os.close(telling)
        while chunk := _read(terminal):
            text += chunk
            if first is None and any(float(share) > 0 for share in re.findall(rb' ([0-9]+)%', text)):
                first = time.perf_counter() - started
        os.close(terminal)
    seconds = time.perf_counter() - started
    memory = os.read(told, 100)
    os.close(told)
    if process.returncode or not memory:
        last = (text.decode(errors='replace').strip().splitlines() or ['nothing was printed'])[-1]
        raise RuntimeError(f'{module} ended with {process.returncode}: {last[:200]}')
    return Ran(seconds, first, 1024 * int(memory))


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 2**16)
    except OSError:  # what Linux says when nobody has the other end any more
        return b''


def commands(quick: bool) -> list[dict[str, Any]]:
    """A row for every command, as `shown` shows it; quick: without the three whole experiments. What fails has an `error` in its row."""
    rows: list[dict[str, Any]] = []
    one = ('weight_sharing', '--arms=conv_gmp', '--seeds=1', '--workers=1')
    longer = ('weight_sharing', *_ONE_SEED)
    with tempfile.TemporaryDirectory(prefix='cnn_research-benchmark-') as folder:

        def add(what: str, programs: str, name: str, *args: str, first: bool = False, cache: str = folder, relative: bool = False) -> None:
            row: dict[str, Any] = {'what': what, 'programs': programs, 'seconds': None, 'ratio': None, 'memory': None, 'error': None}
            try:
                with tempfile.TemporaryDirectory(dir=folder) as workdir:
                    into = None if '--help' in args else str(Path(workdir) / 'runs')
                    done = ran(f'experiments.{name}', *args, folder=folder, cache=cache, workdir=into)
                row |= {'seconds': done.first_step if first else done.seconds, 'memory': done.memory}
            except RuntimeError as e:
                row['error'] = str(e)
            if relative and row['seconds'] is not None and rows[-1]['seconds'] is not None:
                row['ratio'] = row['seconds'] / rows[-1]['seconds']
            rows.append(row)

        add('weight_sharing --help', 'none', 'weight_sharing', '--help')
        add('weight_sharing, until the first step', 'compiled', *one, first=True)
        add('weight_sharing, until the first step', 'kept', *one, first=True, relative=True)
        add(f'{" ".join(longer)}, one seed, one worker', 'kept', *longer, '--seeds=1', '--workers=1')
        add(f'{" ".join(longer)}, two seeds, two workers', 'kept', *longer, '--seeds=2', '--workers=2', relative=True)
        for name in () if quick else EXPERIMENTS:
            with tempfile.TemporaryDirectory(dir=folder) as cache:
                add(name, 'compiled', name, cache=cache)
                add(name, 'kept', name, cache=cache, relative=True)
    return rows


def shown(row: dict[str, Any]) -> tuple[str, ...]:
    """A row as people read it, in `COLUMNS`."""
    if row['error'] is not None:
        return row['what'], row['programs'], row['error'], table.NONE, table.NONE
    seconds = table.NONE if row['seconds'] is None else f'{row["seconds"]:.3g}'
    ratio = table.NONE if row['ratio'] is None else f'{row["ratio"]:.2f}'
    return row['what'], row['programs'], seconds, ratio, cost.human_bytes(row['memory'])
