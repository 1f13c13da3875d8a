"""How many examples does sharing save, and how does that grow with the task? (Lahoti et al. 2024)

    python -m experiments.sample_efficiency                               a signal in a random patch: shared, local, dense
    python -m experiments.sample_efficiency --dataset=static_signal       a signal that always stands in the first patch
    python -m experiments.sample_efficiency --quick                       small sizes, within five minutes

An example is k patches of d numbers, all of them noise of standard deviation sigma; one patch holds a signal of length 1 or its negative
besides, and which of the two is asked. Learners have one hidden layer of soft thresholds: one filter for all patches (shared), one for each
(local), or k units that see all patches (dense), and follow the logistic loss by plain stochastic gradient descent from a Gaussian start.

The examples needed are found by a search: n is doubled until the mean accuracy on fresh examples passes the target, and more n are tried
around that; every training has examples, start and batches of its own. All are made in 16 settings of threshold and rate; those count that
do best in five trainings of their own, at every n and for every learner, and the intervals hold what that choice leaves to chance. A count
that was not reached within `--most` examples stays open ("more than"), in the tables, the figure and the exponents.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from absl import flags as absl_flags

from cnn_research import errors, files, ledger, sweep
from experiments import runner

TASKS = ('dynamic_signal', 'static_signal')
LINES = {'patches': ((8, 16), (16, 16), (24, 16), (32, 16)), 'dimension': ((16, 8), (16, 16), (16, 24), (16, 32))}
QUICK = {'patches': ((4, 8), (8, 8), (12, 8)), 'dimension': ((8, 4), (8, 8), (8, 12))}

FLAGS = absl_flags.FlagValues()
absl_flags.DEFINE_string('dataset', TASKS[0], ' | '.join(TASKS), flag_values=FLAGS)
absl_flags.DEFINE_float('sigma', 0.2, 'standard deviation of the noise; the signal has length 1', flag_values=FLAGS)
absl_flags.DEFINE_float('target', 0.95, 'the accuracy to be reached', flag_values=FLAGS)
absl_flags.DEFINE_integer('seeds', None, 'trainings at every number of examples (10; --quick: 4)', flag_values=FLAGS)
absl_flags.DEFINE_integer('most', 2**17, 'the most examples that are tried', flag_values=FLAGS)
absl_flags.DEFINE_boolean('quick', False, f'sizes {QUICK["patches"][0]} to {QUICK["patches"][-1]} (patches, dimension)', flag_values=FLAGS)
absl_flags.DEFINE_integer('workers', None, 'processes (one per core on a CPU, one on an accelerator)', flag_values=FLAGS)
absl_flags.DEFINE_string(
    'workdir',
    None,
    'folder of results; the same command again resumes (runs/sample_efficiency/DATASET, with --quick DATASET_quick)',
    flag_values=FLAGS,
)


def job() -> int:
    """The searches that the flags ask for, their tables and figure; the exit status. Raises InputError before anything is written."""
    from experiments import signal_searches as searches  # numpy and scipy: imported when there is something to do

    if FLAGS.dataset not in TASKS:
        raise errors.known('dataset', FLAGS.dataset, TASKS)
    seeds = FLAGS.seeds if FLAGS.seeds is not None else 4 if FLAGS.quick else 10
    errors.whole('seeds', seeds, 2)
    errors.whole('most', FLAGS.most, 2 * searches.FIRST)
    if FLAGS.most > searches.MOST:
        raise errors.InputError(f'most must be at most {searches.MOST}, got {FLAGS.most}')
    if not 0 < FLAGS.sigma <= 100 or not 0.5 < FLAGS.target < 1:
        raise errors.InputError(f'sigma must be above 0 and at most 100, target between 0.5 and 1, got {FLAGS.sigma} and {FLAGS.target}')
    if FLAGS.workers is not None:
        errors.positive('workers', FLAGS.workers)
    lines = QUICK if FLAGS.quick else LINES
    points = sorted({point for line in lines.values() for point in line})
    cells = [
        searches.Cell(searches.Search(FLAGS.dataset, model, *point, FLAGS.sigma, FLAGS.target, seeds, FLAGS.most))
        for point in points
        for model in searches.MODELS
    ]
    name = FLAGS.dataset + '_quick' * FLAGS.quick
    book = ledger.Ledger(FLAGS.workdir or os.path.join('runs', 'sample_efficiency', name))
    common = {'task': name, 'sigma': FLAGS.sigma, 'target': FLAGS.target, 'seeds': seeds, 'most': FLAGS.most}
    book.create({'experiment': 'sample_efficiency', 'base': common})
    source = sweep.Source(None, None)
    sweep.run(book, 'sample_efficiency', cells, source, FLAGS.workers or sweep.default_workers(), searches.__name__)
    rows = list(book.results().values())
    with files.writing(book.folder):
        _write(book.folder, rows, lines, points)
    return int(any(row['status'] == 'failed' for row in rows))


def _write(folder: Path, rows: Sequence[Mapping], lines: dict, points: Sequence[tuple[int, int]]) -> None:
    """Print the tables, and write them and the figure to the study's folder."""
    from cnn_research.report import needed, style, table
    from experiments import signal_searches as searches

    examples = searches.counts(rows)
    needed_by = searches.needed_table(examples, points)
    exponents = searches.exponents(examples, lines, claimed=FLAGS.dataset == 'dynamic_signal')
    title = f'examples that {FLAGS.dataset} takes for an accuracy of {100 * FLAGS.target:g} %, sigma {FLAGS.sigma:g}, with 95 % intervals'
    print(f'\n{title}\n{table.plain(*needed_by)}')
    if exponents[1]:
        print(f'\nexponents of that, and those of the claimed formula on the same sizes\n{table.plain(*exponents)}')
    table.write_plain_csv(folder / 'needed.csv', *needed_by)
    table.write_plain_csv(folder / 'exponents.csv', *exponents)
    figure = needed.examples_needed(
        f'Examples needed for {100 * FLAGS.target:g} % ({FLAGS.dataset.replace("_", " ")}, sigma {FLAGS.sigma:g})',
        'bars: 95 % intervals; triangles: more, or fewer, than that', searches.marks(examples, lines),
    )  # fmt: skip
    (folder / 'figures').mkdir(exist_ok=True)
    path = folder / 'figures' / 'examples_needed.svg'
    files.atomic_write_text(path, style.figure_svg(figure))
    print(f'\n{path} shows this.')


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Exit with 0 done, 2 bad input, 128 + n on signal n."""
    runner.command('sample_efficiency', __doc__, FLAGS, job, argv)


if __name__ == '__main__':
    main()
