"""How fast is this, beside what one would use instead, and beside what the machine can do?

    python -m experiments.benchmark                                  all sections, one and two threads
    python -m experiments.benchmark --quick                          steps and layers, fewer rounds, one thread
    python -m experiments.benchmark --sections=lowerings             what `cnn_research/lowering.py` chooses by

Every contender has a process of its own with the same number of threads, and all are asked in turn, A B A B. Times are medians over
rounds; `own / this` is the time of the first contender over that of the one in the row, taken round by round. PyTorch takes part where
it is installed (`pip install torch`), otherwise its rows say so.

steps      a training step, batch 128, of a network of 32 and 64 maps with 256 hidden units and of the bases of three ablations, against
           Flax as its examples write it and PyTorch
layers     a layer of every scheme, forward and backward, 14 x 14, 32 to 64 maps, 3 x 3, batch 128, against `flax.linen.ConvLocal`
           and PyTorch
kernels    the convolution of that layer for larger filters, against PyTorch
lowerings  every way to compute a convolution, the one that is taken first
scaling    the convolution against filter size, side, batch and channels, and a step against the seeds in one program, with the exponent
           of the time
streaming  a step on images that the device holds, and on batches that are read ahead and brought to it
compiling  how long a training program takes to compile, and to be read where it was kept on disk, beside the step of Flax
commands   whole commands, as a user runs them: help, until the first training step, one seed and two, and three experiments twice, with
           the memory of the largest process

`of peak` is the rate of the multiplications that convolutions and dense layers of these sizes take (`cost.py`; three times those of a
forward pass, two thirds of that for a first layer) over that of a matrix product on the same threads. Ways that multiply less may pass 100
%. `roofline.svg` shows the same against the bytes that the work has to move.

Own time over the peer's (PyTorch eager or compiled, whichever is fastest), medians of 7 rounds, jax 0.10.2, flax 0.12.8, on two machines of
two cores: one with AVX2 (75 GFLOP/s in matrix products of a thread; PyTorch 2.13.0), and one with AVX-512 and slow memory (142 GFLOP/s, 15
GB/s in copies; PyTorch 2.14.1):

                                        AVX2, 1 thread   2 threads        AVX-512, 1 thread   2 threads
    step                                Flax  PyTorch   Flax  PyTorch     Flax  PyTorch      Flax  PyTorch
    32 and 64 maps, 256 hidden          0.33   0.68     0.32   0.70       0.33   0.74        0.33   0.96
    base of weight_sharing              0.35   0.97     0.37   1.14       0.38   1.12        0.40   1.03
    base of filter_size                 0.30   0.83     0.32   1.41       0.27   0.86        0.29   1.17
    base of dense_replacement           0.41   1.08     0.39   0.95       0.39   1.21        0.40   1.19

    layer                          ConvLocal  PyTorch   ...               ConvLocal  PyTorch
    convolution 3 x 3                     –    0.80      –    1.05           –     1.13        –    1.55
    convolution 5 x 5                     –    0.36      –    0.49           –     0.63        –    0.78
    convolution 7 x 7                     –    0.24      –    0.32           –     0.40        –    0.50
    convolution 11 x 11                   –    0.14      –    0.16           –     0.25        –    0.31
    locally connected                  0.15    0.53   0.11    0.55        0.15     0.45     0.10    0.58

    layer, times the 3 x 3 convolution here
    locally connected                  2.4 to 2.6                          3.3 to 3.4
    tiled, period 2                    1.7 to 2.3                          1.9 to 2.8
    low rank, 2 kernels                2.1 to 2.4                          2.3 to 2.8

Share of the peak on the first machine: 71 % for the step of 32 and 64 maps, 43 % for that of 16 and 32 (filter_size) and 16 % where maps
are 8 and 16; on the second one 54, 31 and 12 %: there memory, not multiplication, is the limit. Workers of a sweep have one thread each.

On the second machine: `--help` 0.3 s; until the first training step 4.8 s, 3.1 s with kept programs; two seeds by two workers 1.00 times
as long as one by one; weight_sharing, filter_size and dense_replacement on digits 78, 98 and 60 s, 70, 75 and 45 s with kept programs, and
at most 0.75 GB; a training program takes 1.0 s to compile (the step of Flax 0.8 s) and 0.25 s to be read. Time grows with the filter as its
side to the power 0.4, with the side of the image to 2.3, the batch to 1.1, the channels to 1.3; several seeds in one program cost a CPU 1.5
to 2.6 times what they cost one by one. The whole command takes 36 minutes. (On another day of this machine, 126 GFLOP/s and 12 GB/s, the
step took 0.75 and 1.08 of PyTorch's time on one and two threads, and everything 48 minutes.)

Batches that are read ahead and brought to the device take a step 1.06 to 1.27 times as long as images that it holds (1 thread), 1.01 to
1.10 times with two, where they come from memory; where every image is decoded from PNG, 1.5 to 2.6 and 1.5 to 2.9 times (second machine,
the longer ones for the step of 8 and 16 maps, 14 ms).

What else was tried, in multiples of the time of the 3 x 3 convolution (one thread, all asked in turn, medians of 5 rounds):

    locally connected    patches with positions first 2.5 (kept); with images first 3.1; tap by tap 3.0; a row of taps at a time 2.5
    tiled, period 2      a product per kernel 2.2 (kept); four strided convolutions 4.0; expanded to locally connected 3.0; one convolution
                         of four times the maps 5.0; patches with images first 6.0
    low rank, 2 kernels  one convolution of twice the maps 2.3 (kept); two convolutions 2.3; expanded to locally connected 2.7; the mixture
                         as a product 2.4; patches mixed before one product 7.7
    convolution          by its patches 2.4; by blocks of patches 1.1; frequencies of 8, 16, 32 or 64 images at a time 1.7, 1.4, 1.2, 1.3

The step of 32 and 64 maps on two threads, on another day of the second machine 37 ms and 0.93 of PyTorch's: both convolutions by blocks
1.31 times as long; by patches 1.24; the second by patches 1.37; the first by XLA 3.2; the batch in halves on two devices of one thread each
0.68, which a later version may take up. All of weight_sharing that day 68 s with kept programs, and 67 s since every worker starts with
arms of its own; 58 s of that are steps on two cores, and a step of the dense arms (18 ms) is products at 103 GFLOP/s (10 ms) and the
memory that Adam reads and writes (8 ms). Adam in blocks that stay in the cache took 1.7 times as long, in vectors of 512 bits 1.0; one
worker of two threads in place of two workers 1.04 times as long for dense, 2.1 for local and 2.7 for convolutional arms.
"""

import json
import os
import platform
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from absl import flags as absl_flags

from cnn_research import errors, files
from cnn_research.report import style, table
from experiments import contenders, flags, roofline, runner, timing, whole
from experiments.comparisons import SECTIONS, Comparison
from experiments.timing import Contender

COLUMNS = ('what', 'contender', 'threads', 'ms', 'lowest', 'highest', 'own / this', 'of peak')
ALL = (*SECTIONS, 'commands')
QUICK = ('steps', 'layers')
IN_FIGURE = ('steps', 'layers', 'kernels')

FLAGS = absl_flags.FlagValues()
absl_flags.DEFINE_string('sections', None, 'which sections, by name, separated by commas (all; --quick: steps,layers)', flag_values=FLAGS)
absl_flags.DEFINE_string('threads', None, 'numbers of threads, separated by commas (1,2; --quick: 1)', flag_values=FLAGS)
absl_flags.DEFINE_boolean('quick', False, 'three short rounds instead of seven, commands without whole experiments', flag_values=FLAGS)
absl_flags.DEFINE_string('workdir', 'runs/benchmark', 'where benchmark.json and roofline.svg go', flag_values=FLAGS)


def compare(comparison: Comparison, threads: int, rounds: int, seconds: float, peak: float) -> list[dict[str, Any]]:
    """A row of `COLUMNS` for every contender; seconds instead of ms, None where there is no number, and the error."""
    timings = timing.measure(comparison.contenders, threads, rounds, seconds)
    own, rows = next(iter(timings.values())), []
    for name, found in timings.items():
        row = dict.fromkeys(('seconds', 'lowest', 'highest', 'ratio', 'of_peak')) | {'error': found.error}
        if found.error is None:
            row |= {'seconds': found.median, 'lowest': min(found.seconds), 'highest': max(found.seconds)}
            row['ratio'] = None if own.error or found is own else timing.ratio(own, found)[0]
            row['of_peak'] = 2 * comparison.macs / found.median / peak if comparison.macs else None
        row |= {'own': found is own, 'macs': comparison.macs, 'bytes': comparison.bytes}
        rows.append({'what': comparison.what, 'contender': name, 'threads': threads, **row})
    return rows


def exponents(rows: Sequence[dict[str, Any]]) -> list[tuple[str, int, float]]:
    """(what varies, threads, slope of log time against log size) of the rows of `scaling`, by least squares."""
    found: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for row in rows:
        if row['seconds'] is not None:
            name, size = row['what'].split()
            found.setdefault((name, row['threads']), []).append((int(size), row['seconds']))
    slopes = []
    for key, points in found.items():
        sizes, seconds = np.log(np.array(points)).T
        slopes.append((*key, float(np.polyfit(sizes, seconds, 1)[0])))
    return slopes


def shown(row: dict[str, Any]) -> tuple[str, ...]:
    """A row as people read it."""
    if row['error'] is not None:
        return (row['what'], row['contender'], str(row['threads']), row['error'], *[table.NONE] * 4)
    ms = (f'{1e3 * row[key]:.3g}' for key in ('seconds', 'lowest', 'highest'))
    ratio = table.NONE if row['ratio'] is None else f'{row["ratio"]:.2f}'
    of_peak = table.NONE if row['of_peak'] is None else f'{row["of_peak"]:.0%}'
    return (row['what'], row['contender'], str(row['threads']), *ms, ratio, of_peak)


def facts() -> dict[str, str]:
    """What was measured, and on what."""
    found = {'python': platform.python_version(), 'machine': platform.machine(), 'cores': str(os.cpu_count())}
    for package in ('jax', 'jaxlib', 'flax', 'torch'):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = 'not installed'
    return found


def asked() -> tuple[list[str], list[int]]:
    """Sections and numbers of threads that the flags ask for. Raises InputError for unknown ones."""
    default = QUICK if FLAGS.quick else ALL
    cores = os.cpu_count() or 1
    text = ('1' if FLAGS.quick or cores == 1 else '1,2') if FLAGS.threads is None else FLAGS.threads
    with errors.gathered() as check:
        sections = list(default) if FLAGS.sections is None else check(flags.listed, 'section', FLAGS.sections, ALL)
        known = all(re.fullmatch('[0-9]{1,9}', part) and 0 < int(part) <= cores for part in text.split(','))
        bounds = f'threads must be whole numbers from 1 to the {cores} cores here, separated by commas, got {errors.shown(text)}'
        check(errors.require, known, bounds)
    return sections, [int(part) for part in text.split(',')]


def limits(threads: Sequence[int], rounds: int, seconds: float) -> dict[str, dict[int, float]]:
    """What the machine can do by number of threads: FLOP per second of a matrix product, bytes per second of a copy."""
    found: dict[str, dict[int, float]] = {'peak': {}, 'bandwidth': {}}
    team = [Contender('product', contenders.matrix_product, {}), Contender('copy', contenders.copying, {})]
    for number in threads:
        times = timing.measure(team, number, rounds, seconds)
        found['peak'][number] = 2 * contenders.PRODUCT**3 / min(times['product'].seconds)
        found['bandwidth'][number] = 2 * contenders.COPIED / min(times['copy'].seconds)
        rates = found['peak'][number] / 1e9, found['bandwidth'][number] / 1e9
        print('{} thread{}: {:.0f} GFLOP/s in matrix products, {:.1f} GB/s in copies'.format(number, 's' * (number > 1), *rates))
    return found


def run(wanted: tuple[list[str], list[int]]) -> int:
    """Measure so many sections with so many threads, print and write. Raises InputError where nothing can be written."""
    sections, threads = wanted
    folder = Path(FLAGS.workdir)
    with files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    rounds, seconds = (3, 0.3) if FLAGS.quick else (7, 0.5)
    machine = limits(threads, rounds, seconds)
    report: dict[str, Any] = {'facts': facts(), 'rounds': rounds, **machine, 'rows': {}, 'exponents': []}
    for section in sections:
        if section == 'commands':
            report['rows'][section] = _commands()
        else:
            report['rows'][section] = rows = _compared(section, threads, rounds, seconds, machine['peak'])
            if section == 'scaling':
                report['exponents'] = exponents(rows)
                print(f'\n{table.plain(("time against", "threads", "exponent"), report["exponents"])}')
        with files.writing(folder):  # after every section, so that what was measured stays
            files.atomic_write_text(folder / 'benchmark.json', json.dumps(report, indent=1) + '\n')
            _draw(report, threads[0], folder)
    print(f'\n{folder}/benchmark.json holds all numbers.')
    return int(any(row['error'] for rows in report['rows'].values() for row in rows if 'not installed' not in (row['error'] or '')))


def _compared(section: str, threads: Sequence[int], rounds: int, seconds: float, peak: dict[int, float]) -> list[dict[str, Any]]:
    work = [(comparison, number) for number in threads for comparison in SECTIONS[section]()]
    rows = [row for item, number in timing.progress(work, section) for row in compare(item, number, rounds, seconds, peak[number])]
    print(f'\n{section}\n{table.plain(COLUMNS, [shown(row) for row in rows])}')
    return rows


def _commands() -> list[dict[str, Any]]:
    rows = whole.commands(FLAGS.quick)
    print(f'\ncommands\n{table.plain(whole.COLUMNS, [whole.shown(row) for row in rows])}')
    return rows


def _draw(report: dict[str, Any], threads: int, folder: Path) -> None:
    """The roofline of what was measured so far, if there is any in it."""
    points = roofline.points([row for section in IN_FIGURE for row in report['rows'].get(section, ())], threads)
    if points:
        subtitle = (
            f'{threads} thread{"s" * (threads > 1)}; forward and backward; {report["facts"]["machine"]}, jax {report["facts"]["jax"]}'
        )
        figure = roofline.roofline(points, report['peak'][threads], report['bandwidth'][threads], subtitle)
        files.atomic_write_text(folder / 'roofline.svg', style.figure_svg(figure))


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    runner.command('benchmark', __doc__, FLAGS, asked, run, argv)


if __name__ == '__main__':
    main()
