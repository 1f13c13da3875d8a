"""Where and how the cells of a command run: here, on which devices, with other processes in step, or as the tasks of a SLURM array."""

import hashlib
import json
import math
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from absl import flags as absl_flags

from cnn_research import config, data, errors, layout, ledger, slurm, sweep
from experiments import flags

T = TypeVar('T')
# `hosts` and `in_step` import jax, for which nobody should wait who does not need it: they are imported within functions.


def check(f: absl_flags.FlagValues) -> None:
    """Raises InputError for flags that do not go together, or have values that mean nothing."""
    launcher = f.launcher or 'local'
    with errors.gathered() as check:
        for name in ('data_parallel', 'model_parallel', 'tasks'):
            if f[name].value is not None:
                check(errors.positive, name, f[name].value)
        if f.distributed is not None:
            check(layout.address, f.distributed)
            check(errors.require, f.workers is None, 'processes that train together start no workers: leave --workers out')
        check(errors.member, 'launcher', launcher, flags.LAUNCHERS)
        if launcher == 'slurm':
            check(errors.require, f.distributed is None, 'an array shares cells, --distributed one training: leave one of them out')
            check(errors.require, 'SLURM_ARRAY_TASK_ID' not in os.environ, 'this is a task of an array: leave --launcher out')
        if f.sbatch is not None:
            check(slurm.read_options, f.sbatch)
        for name in flags.OF_SLURM if launcher == 'local' else ():
            check(errors.require, f[name].value is None, f'{name} is for --launcher=slurm: give that too, or leave {name} out')


def check_fit(how: sweep.How, configs: Mapping[str, config.Config], opened: Callable[[str], data.Dataset]) -> None:
    """Raises InputError where there are too few devices, or a batch cannot be dealt out to them."""
    parallel = how.parallel
    if parallel is None:
        return
    devices = sweep.devices()

    def fits(arm: str) -> None:
        c = configs[arm]
        parallel.on(devices, 1, min(c.train.batch_size, c.data.train_size or len(opened(c.data.dataset).train_images)))

    errors.of_each('arm', configs, fits)


def submit(book: ledger.Ledger, study: Mapping[str, Any], argv: Sequence[str]) -> int:
    """Submit the command as a SLURM array, or print what would be submitted."""
    f = flags.FLAGS
    tasks, options = f.tasks or flags.TASKS, slurm.read_options(f.sbatch or '')
    text = slurm.script(study['experiment'], flags.task(argv), book.folder, tasks, options)
    if f.dry_run:
        print(text, end='')
        return 0
    slurm.check_is_here()
    book.create(study)
    number = slurm.submit(text, book.folder)
    print(f'job {number}: {tasks} tasks share the cells of {book.folder}; when all are done they make the report')
    print(f'python -m experiments.status {shlex.quote(str(book.folder))} shows how far they are')
    return 0


def how(f: absl_flags.FlagValues) -> sweep.How:
    """How the flags ask for cells to be run. With --distributed this process joins the others. Raises InputError if it finds none."""
    in_step, parallel = f.distributed is not None, None
    if in_step:
        from cnn_research import hosts

        hosts.start(f.distributed)
    several = (f.data_parallel or 1) * (f.model_parallel or 1) > 1  # on a CPU a process per core is faster than one for all
    if several or in_step or ((f.data_parallel or f.model_parallel) and not sweep.on_cpu()):
        parallel = layout.Wish(f.data_parallel, f.model_parallel or 1, every=in_step)
    workers = f.workers or (1 if parallel else sweep.default_workers())
    return sweep.How(workers, bool(f.retry), f.save_every or sweep.SAVE_EVERY, parallel, in_step, bool(f.profile))


def traces(folder: Path) -> str:
    """Which traces there are, and how they are looked at."""
    names = sorted(path.name for path in folder.glob('*'))
    if not names:
        return '--profile traces trainings that begin, and none did: give another --workdir'
    return f'traces of {", ".join(names)} in {folder}: pip install xprof, then xprof --logdir={shlex.quote(str(folder / names[0]))}'


def agreed(how: sweep.How, asked: Any, found: Callable[[], T], data_of: Callable[[T], Sequence[data.Dataset]]) -> T:
    """What is found, in all processes in step, which must have been asked for the same, with the same packages, on the same data.

    Raises:
      InputError: in all of them, if one finds something wrong or another.
    """
    if not how.in_step:
        return found()
    from cnn_research import hosts, keeping

    made_by = keeping.made_by()
    hosts.check_alike('what they are asked for', [asked, how.parallel, how.profile])
    hosts.check_alike('their packages', [made_by[name] for name in ('jax', 'jaxlib', 'flax', 'optax', 'code')])
    result = hosts.alike(found)
    hosts.check_alike('their data', [_digest(dataset) for dataset in data_of(result)])
    return result


def _digest(dataset: data.Dataset) -> str:
    """What tells data sets apart without reading all images."""
    sizes = [dataset.train_images.shape, dataset.test_images.shape, dataset.class_names]
    labels = (np.asarray(each, np.int32).tobytes() for each in (dataset.train_labels, dataset.validation_labels, dataset.test_labels))
    return hashlib.sha256(b''.join([json.dumps(sizes).encode(), *labels])).hexdigest()


def shared(how: sweep.How, book: ledger.Ledger) -> Any:
    """The ledger, or in several processes in step the one that they share."""
    if not how.in_step:
        return book
    from cnn_research import in_step

    return in_step.Book(book)


def dealt_out(how: sweep.How, cells: int) -> sweep.How:
    """As the task of an array, leave other tasks their part of so many cells."""
    tasks = int(os.environ.get('SLURM_ARRAY_TASK_COUNT', 1))
    return how._replace(together=math.ceil(cells / tasks)) if tasks > 1 else how


def by_one(how: sweep.How, book: Any, function: Callable[[], int]) -> int:
    """What the function gives, called in one process. Raises SystemExit if one of those in step was asked to end before."""
    if not how.in_step:
        return function()
    from cnn_research import hosts

    book.asked.end()
    return hosts.by_first(function)
