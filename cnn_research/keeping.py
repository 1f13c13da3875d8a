"""The progress of trainings in files: saved now and then, found again to the same bits, and saved when a signal asks a process to end."""

import copy
import dataclasses
import functools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import flax
import jax
import jaxlib
import numpy as np
import optax

from cnn_research import checkpoint, compiled, errors, files, train
from cnn_research.problem import Problem

_SHARE = 0.01  # of the time may go into saving, whatever the interval


class Asked:
    """What signals have asked of this process: SIGTERM to save and end, SIGUSR1 to save.

    While a training runs it hears them after its next chunk of steps; at other times SIGTERM ends the process at once.
    """

    def __init__(self) -> None:
        self.to_save = self.to_end = self.training = False

    def listen(self) -> None:
        """Hear the signals. Only the main thread can."""
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGUSR1, self._save)

    def _end(self, number: int, frame: object) -> None:
        self.to_end = True
        if not self.training:
            raise SystemExit(128 + number)

    def end(self) -> None:
        """Raises SystemExit if this process was asked to end while a training ran."""
        if self.to_end:
            raise SystemExit(128 + signal.SIGTERM)

    def _save(self, number: int, frame: object) -> None:
        self.to_save = True


class FileKeeper:
    """Keeps the progress of a training in a folder. A `train.Keeper`, to be entered while the training runs.

    cells: the names of the cells that are trained together; the first names the files. config: what the training is, as JSON; a state of
    another one is not gone on from. every: seconds of training that may be lost at most, unless saving would take over a hundredth of the
    time, or the disk is slower than that.
    warn: told what a user should know.
    """

    def __init__(
        self, folder: Path, cells: Sequence[str], config: Mapping[str, Any], every: float, asked: Asked, warn: Callable[[str], None]
    ):
        self._folder, self._what, self._every = folder, {'cells': list(cells), 'config': json.loads(json.dumps(config))}, every
        self.asked, self._warn = asked, warn
        self._saved, self._took = time.monotonic(), 0.0
        self._passed, self._wrote = self._saved, 0.0
        self._writer = ThreadPoolExecutor(1)
        self._written: Future[None] | None = None

    def __enter__(self) -> 'FileKeeper':
        self.asked.training = True
        return self

    def __exit__(self, *error: object) -> None:
        self.asked.training = False
        self._writer.shutdown()

    def resumed(self, problem: Problem, seeds: Sequence[int]) -> train.Progress | None:
        """The newest good progress of these cells, None where there is none.

        Raises:
          InputError: a file that is whole but holds other arrays than the training has.
        """
        found = checkpoint.newest(self._folder, self._name, self._warn)
        if found is None:
            return None
        path, saved = found
        if saved.facts['what'] != self._what:
            self._warn(f'{path} is of another definition of {self._name}, or of other seeds beside it: it starts anew')
            checkpoint.remove(self._folder, self._name)
            return None
        template = like(problem, seeds, saved.facts)
        checkpoint.check(path, saved.leaves, _leaves(template))
        changes = ', '.join(errors.differences(saved.made_by, made_by()))
        if changes:
            self._warn(f'{self._name} goes on elsewhere than it began ({changes}): its last bits may differ')
        arrays = [saved.leaves[path] for path in _leaves(template)]
        return filled(template, saved.facts, jax.tree.unflatten(jax.tree.structure(tree(template)), arrays))

    def passed(self, progress: train.Progress) -> None:
        """Keep the progress if it is time, or if this process was asked to.

        Raises:
          InputError: the last progress could not be written. SystemExit: this process was asked to end.
        """
        if self.asked.to_save or self.asked.to_end or self.due():
            self.save(progress)
        if self.asked.to_end:
            self.finish()
            self.asked.end()

    def due(self) -> bool:
        """Whether a state that is taken only at the next chance would be in its file later than an interval after the last was taken."""
        now = time.monotonic()
        pause, self._passed = now - self._passed, now
        # A disk that is slow to write the last one holds nothing up, and makes no interval longer.
        written = self._written is None or self._written.done()
        since = now - self._saved
        return written and since >= self._took / _SHARE and since + pause + self._wrote >= self._every

    def save(self, progress: train.Progress) -> None:
        """Take a copy of the progress; it is written while the training goes on. Raises InputError if the one before could not be."""
        started = time.monotonic()
        self.finish()
        self.asked.to_save = False
        # Copies, for the next steps are given the memory of the state, and histories grow.
        leaves = {path: np.array(leaf) for path, leaf in _leaves(progress).items()}
        number = progress.epoch * progress.problem.steps_per_epoch + progress.done
        with files.writing(self._folder.parent):
            self._folder.mkdir(exist_ok=True)
        self._written = self._writer.submit(self._write, number, leaves, {'what': self._what, **facts(progress)})
        self._saved, self._took = time.monotonic(), time.monotonic() - started

    def _write(self, number: int, leaves: Mapping[str, np.ndarray], told: dict[str, Any]) -> None:
        started = time.monotonic()
        checkpoint.save(self._folder, self._name, number, checkpoint.Saved(leaves, told, made_by()))
        self._wrote = time.monotonic() - started

    @property
    def _name(self) -> str:
        return self._what['cells'][0]

    def finish(self) -> None:
        """Wait for what is being written. Raises InputError if it could not be."""
        if self._written is not None:
            with files.writing(self._folder.parent):
                self._written.result()
            self._written = None


def made_by() -> dict[str, str]:
    """What the bits of a training depend on, besides its definition."""
    return {
        'jax': jax.__version__, 'jaxlib': jaxlib.__version__, 'flax': flax.__version__, 'optax': optax.__version__, 'code': str(commit()),
        'processor': compiled.processor(), 'device': jax.devices()[0].device_kind, 'devices': str(jax.device_count()),
        'threads': os.environ.get('NPROC', 'all'), 'XLA_FLAGS': os.environ.get('XLA_FLAGS', ''),
    }  # fmt: skip


@functools.cache
def commit() -> str | None:
    """The commit of this code, with '-dirty' where it was changed; None where there is no repository."""
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=12']
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def facts(progress: train.Progress) -> dict[str, Any]:
    """What a progress holds besides arrays."""
    return {
        'epoch': progress.epoch, 'done': progress.done, 'seconds': progress.seconds, 'histories': copy.deepcopy(progress.histories),
        'best': progress.best is not None, 'relaxed': progress.problem.config.train.relax_epoch is None,
    }  # fmt: skip


def like(problem: Problem, seeds: Sequence[int], facts: Mapping[str, Any]) -> train.Progress:
    """A progress whose arrays are shapes: what a state of these facts must hold."""
    begun = train.begin(train.freed(problem) if facts['relaxed'] else problem, seeds, shapes=True)
    return dataclasses.replace(begun, best=begun.state if facts['best'] else None)


def tree(progress: train.Progress) -> dict[str, Any]:
    """The arrays of a progress."""
    best = {} if progress.best is None else {'best': progress.best}
    return {'state': progress.state, 'total': progress.total, **best}


def _leaves(progress: train.Progress) -> dict[str, Any]:
    """Arrays by path, as 'state/params/stage_0/kernel'."""
    found, _ = jax.tree_util.tree_flatten_with_path(tree(progress))
    return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf for path, leaf in found}


def filled(template: train.Progress, facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> train.Progress:
    """The progress of which these are the facts and the arrays, as of `tree`."""
    return train.Progress(
        template.problem, arrays['state'], arrays['total'], facts['histories'], facts['epoch'], facts['done'], facts['seconds'],
        arrays.get('best'),
    )  # fmt: skip
