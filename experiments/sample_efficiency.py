"""How many examples does sharing save, and how does that grow with the task?

    python -m experiments.sample_efficiency                               digits: accuracy by number of training images
    python -m experiments.sample_efficiency --dataset=fashion_mnist       or mnist, cifar10, any prepared TFDS set
    python -m experiments.sample_efficiency --dataset=dynamic_signal      a signal in a random patch (Lahoti et al. 2024)
    python -m experiments.sample_efficiency --dataset=static_signal       a signal that always stands in the first patch
    python -m experiments.sample_efficiency --dataset=norm_comparison     which of two channels is larger (Li, Zhang and Arora 2021)
    python -m experiments.sample_efficiency --dataset=norm_comparison/cifar10
    python -m experiments.sample_efficiency --dataset=shared_rank         filters of rank 1, 2, 5, from 20 examples (Zhou et al. 2021)

Images. Networks of two stages, 8 and 16 maps, that differ in their sharing alone, on n training images of a nested draw that is balanced
over classes. Four settings (rate, weight decay) are tried on validation data for every network and n up to 10,000; above, those of 10,000
are taken. The images needed for an accuracy are read from a rising curve through the means.

Signals. An example is k patches of d numbers, all of them noise of standard deviation sigma; one patch holds a signal of length 1 or its
negative besides, and which of the two is asked. Learners have one hidden layer of soft thresholds: one filter for all patches (shared), one
for each (local), or k units that see all patches (dense), and follow the logistic loss by plain stochastic gradient descent from a Gaussian
start. Norms. Convolutions and dense layers, by plain gradient descent and by Adam, on normal noise of D inputs, or on red and green.

The examples needed for those are found by a search: n is doubled until the mean accuracy on fresh examples passes the target, and more n
are tried around that; every training has examples, start and batches of its own. All are made in several settings, as many for every
learner; those count that do best in five trainings of their own, at every n, and the intervals hold what that choice leaves to chance. A
count that was not reached within `--most` examples stays open ("more than"), in the tables, the figure and the exponents.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import flags as absl_flags

from cnn_research import errors, files, ledger, sweep
from experiments import runner

SIGNALS, NORM, RANK = ('dynamic_signal', 'static_signal'), 'norm_comparison', 'shared_rank'
FLAGS = absl_flags.FlagValues()
absl_flags.DEFINE_string(
    'dataset', 'digits', f'{" | ".join(SIGNALS)} | {NORM}[/cifar10] | {RANK}, or a data set of images', flag_values=FLAGS
)
absl_flags.DEFINE_string('arms', None, 'networks, of images: conv,tiled,low_rank,local,dense (conv,local,dense)', flag_values=FLAGS)
absl_flags.DEFINE_float('sigma', None, 'deviation of the noise, of signals, of length 1 (0.2), and of shared_rank (0)', flag_values=FLAGS)
absl_flags.DEFINE_float('target', None, 'the accuracy to be reached, of signals (0.95) and norms (0.9)', flag_values=FLAGS)
absl_flags.DEFINE_integer(
    'seeds',
    None,
    'trainings at every number of examples (10; images: 5, above 30,000 images 3; --quick: 4), or tasks (50)',
    flag_values=FLAGS,
)
absl_flags.DEFINE_integer('most', None, 'the most examples that are tried, of signals and norms (131,072)', flag_values=FLAGS)
absl_flags.DEFINE_boolean('quick', False, 'small sizes, of signals and norms', flag_values=FLAGS)
absl_flags.DEFINE_string('data_dir', None, 'where TFDS keeps prepared data (TFDS_DATA_DIR or ~/tensorflow_datasets)', flag_values=FLAGS)
absl_flags.DEFINE_string('raw_dir', None, 'folder of the original files: prepare from there, without network', flag_values=FLAGS)
absl_flags.DEFINE_integer('workers', None, 'processes (one per core on a CPU, one on an accelerator)', flag_values=FLAGS)
absl_flags.DEFINE_string(
    'workdir', None, 'folder of results; the same command again resumes (runs/sample_efficiency/DATASET)', flag_values=FLAGS
)
_SEARCH = ('target', 'most', 'quick')
_OWN = {'sigma', 'arms', 'data_dir', 'raw_dir', *_SEARCH}  # flags that not all tasks have


def job() -> int:
    """What the flags ask for, its tables and figure; the exit status. Raises InputError before anything is written."""
    task = FLAGS.dataset
    if FLAGS.seeds is not None:
        errors.whole('seeds', FLAGS.seeds, 2)
    if FLAGS.workers is not None:
        errors.positive('workers', FLAGS.workers)
    if FLAGS.sigma is not None and not 0 <= FLAGS.sigma <= 100:
        raise errors.InputError(f'sigma must be from 0 to 100, got {FLAGS.sigma}')
    if task in SIGNALS:
        return _only(('sigma', *_SEARCH), _searches)
    if task == NORM:
        return _only(_SEARCH, _searches)
    if task.startswith(f'{NORM}/'):
        return _only((*_SEARCH, 'data_dir', 'raw_dir'), _searches)
    if task == RANK:
        return _only(('sigma',), _ranks)
    return _only(('arms', 'data_dir', 'raw_dir'), _images)


def _only(own: Sequence[str], run: Callable[[], int]) -> int:
    for name in sorted(_OWN - set(own)):
        if FLAGS[name].present:
            raise errors.InputError(f'{FLAGS.dataset} has no use for --{name}: leave it out')
    return run()


def _open(**common: Any) -> ledger.Ledger:
    """The study's folder, with what all its cells have in common."""
    book = ledger.Ledger(FLAGS.workdir or _folder())
    book.create({'experiment': 'sample_efficiency', 'base': {'task': FLAGS.dataset, **common}})
    return book


def _sweep(book: ledger.Ledger, cells: Sequence[Any], module: str = 'cnn_research.worker') -> list[dict[str, Any]]:
    """Run what is missing; all rows of the folder."""
    source = sweep.Source(FLAGS.data_dir, FLAGS.raw_dir)
    sweep.run(book, 'sample_efficiency', cells, source, FLAGS.workers or sweep.default_workers(), module)
    return list(book.results().values())


def _folder() -> str:
    return os.path.join('runs', 'sample_efficiency', FLAGS.dataset.replace('/', '_') + '_quick' * FLAGS.quick)


def _status(book: ledger.Ledger) -> int:
    return int(any(row['status'] == 'failed' for row in book.results().values()))


def _show(folder: Path, name: str, title: str, columns: Sequence[str], lines: Sequence[tuple]) -> None:
    """Print a table, and keep it as NAME.csv."""
    from cnn_research.report import table

    if lines:
        print(f'\n{title}\n{table.plain(tuple(columns), list(lines))}')
    table.write_plain_csv(folder / f'{name}.csv', tuple(columns), list(lines))


def _draw(folder: Path, name: str, figure: Any) -> None:
    from cnn_research.report import style

    (folder / 'figures').mkdir(exist_ok=True)
    path = folder / 'figures' / f'{name}.svg'
    files.atomic_write_text(path, style.figure_svg(figure))
    print(f'\n{path} shows this.')


def _searches() -> int:
    """The examples needed by every model at every size of a generated task, and the exponents."""
    from cnn_research import data
    from cnn_research.report import needed
    from experiments import jobs, searches, studies  # numpy, scipy and jax: imported when there is something to do

    task, quick = FLAGS.dataset, FLAGS.quick
    sigma = FLAGS.sigma if FLAGS.sigma is not None else 0.2
    target = FLAGS.target if FLAGS.target is not None else 0.95 if task in SIGNALS else 0.9
    seeds = FLAGS.seeds or (4 if quick else 10)
    most = FLAGS.most if FLAGS.most is not None else 2**17
    errors.whole('most', most, 2 * searches.FIRST)
    if most > searches.MOST:
        raise errors.InputError(f'most must be at most {searches.MOST}, got {most}')
    if sigma == 0:
        raise errors.InputError('sigma must be above 0: without noise nothing hides a signal')
    if not 0.5 < target < 1:
        raise errors.InputError(f'target must be between 0.5 and 1, got {target}')
    if '/' in task:
        images = data.load(task.partition('/')[2], data_dir=FLAGS.data_dir, raw_dir=FLAGS.raw_dir).train_images
        if images.shape[3] != 3:
            raise errors.InputError(f'{task} needs images with red and green, those have {images.shape[3]} channel: try {NORM}/cifar10')
    study = studies.signal(task, sigma, quick) if task in SIGNALS else studies.norm(task, quick)
    cells = [jobs.Cell(searches.Search(study.learner(model, size), target, seeds, most)) for size in study.sizes for model in study.models]
    noise = {'sigma': sigma} if task in SIGNALS else {}
    book = _open(quick=quick, target=target, seeds=seeds, most=most, **noise)
    examples = searches.counts(_sweep(book, cells, jobs.__name__))
    with files.writing(book.folder):
        under = f', sigma {sigma:g}' if task in SIGNALS else ''
        title = f'examples that {task} takes for an accuracy of {100 * target:g} %{under}, with 95 % intervals'
        _show(book.folder, 'needed', title, *searches.needed_table(study, examples))
        beside = ', and those of the claimed formulas on the same sizes' if study.claims else ''
        _show(book.folder, 'exponents', f'exponents of that{beside}', *searches.exponents(study, examples))
        heading = f'Examples needed for {100 * target:g} % ({task.replace("_", " ")}{under})'
        marks = searches.marks(study, examples)
        _draw(book.folder, 'examples_needed', needed.examples_needed(heading, 'bars: 95 % intervals; triangles: more, or fewer', marks))
    return _status(book)


def _ranks() -> int:
    """What every scheme gets wrong after 20 examples of maps of rank 1, 2 and 5."""
    from experiments import jobs, rank_fits

    tasks, sigma = FLAGS.seeds or 50, FLAGS.sigma or 0.0
    cells = [jobs.Cell(rank_fits.Fit(scheme, rank, sigma, tasks)) for scheme in rank_fits.SCHEMES for rank in rank_fits.RANKS]
    book = _open(sigma=sigma, tasks=tasks)
    rows = _sweep(book, cells, jobs.__name__)
    with files.writing(book.folder):
        for name, title, columns, lines in rank_fits.tables(rows):
            _show(book.folder, name, f'{title}; {tasks} tasks, noise {sigma:g}', columns, lines)
        _draw(book.folder, 'errors_by_rank', rank_fits.figure(rows, tasks, sigma))
    return _status(book)


def _images() -> int:
    """Accuracy by number of training images, and the images needed for an accuracy."""
    from cnn_research import data
    from experiments import image_samples

    names = image_samples.DEFAULT if FLAGS.arms is None else tuple(name.strip() for name in FLAGS.arms.split(','))
    for name in names:
        if name not in image_samples.NETWORKS:
            raise errors.known('network', name, image_samples.NETWORKS)
    try:
        dataset = data.load(FLAGS.dataset, data_dir=FLAGS.data_dir, raw_dir=FLAGS.raw_dir)
    except errors.InputError as e:
        raise errors.InputError(f'{e}; generated tasks: {", ".join((*SIGNALS, NORM, RANK))}') from None
    networks = [name for name in image_samples.NETWORKS if name in names]
    ns, seeds = image_samples.sizes(len(dataset.train_images)), FLAGS.seeds or 5
    book = _open()
    tuned = _sweep(book, image_samples.tuning_cells(dataset, networks, ns))
    rows = _sweep(book, image_samples.main_cells(dataset, networks, ns, seeds, tuned))
    with files.writing(book.folder):
        scores = image_samples.accuracies(rows)
        title = f'test accuracy (%) on {dataset.name} by number of training images, with 95 % intervals over seeds'
        _show(book.folder, 'accuracy', title, *image_samples.accuracy_table(scores))
        counts = image_samples.examples_needed(scores)
        _show(book.folder, 'needed', 'training images needed for a test accuracy, with 95 % intervals', *image_samples.needed_table(counts))
        figure = image_samples.figure(dataset.name, scores, counts, 1 / len(dataset.class_names))
        _draw(book.folder, 'samples_saved', figure)
    return _status(book)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Exit with 0 done, 2 bad input, 128 + n on signal n."""
    runner.command('sample_efficiency', __doc__, FLAGS, job, argv)


if __name__ == '__main__':
    main()
