"""What `sample_efficiency` does for each kind of task: its cells, then its tables and figure."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from cnn_research import data, errors, files, ledger, rank_learners, sweep
from cnn_research.report import needed as figures
from cnn_research.report import style, table
from experiments import image_samples, jobs, rank_fits, runner, studies
from experiments import searches as needs
from experiments.tasks import GENERATED


def _open(f: flags.FlagValues, **common: Any) -> ledger.Ledger:
    """The study's folder, with what all its cells have in common."""
    book = ledger.Ledger(f.workdir or _folder(f))
    book.create({'experiment': 'sample_efficiency', 'base': {'task': f.dataset, **common}})
    return book


def _sweep(f: flags.FlagValues, book: ledger.Ledger, cells: Sequence[Any], module: str = 'cnn_research.worker') -> list[dict[str, Any]]:
    """Run what is missing of these cells; their rows. What has no result is printed."""
    source = sweep.Source(f.data_dir, f.raw_dir)
    how = sweep.How(f.workers or sweep.default_workers(), f.retry)
    sweep.run(book, 'sample_efficiency', cells, source, how, module)
    done = book.results()
    rows = [done[cell.name] for cell in cells]
    for row in rows:
        if row['status'] in ('failed', 'refused'):
            print(f'{row["cell"]} {row["status"]}: {row["error"]}')
    return rows


def _folder(f: flags.FlagValues) -> str:
    return os.path.join('runs', 'sample_efficiency', f.dataset.replace('/', '_') + '_quick' * f.quick)


def _show(folder: Path, name: str, title: str, columns: Sequence[str], lines: Sequence[tuple]) -> None:
    """Print a table, and keep it as NAME.csv."""
    if lines:
        print(f'\n{title}\n{table.plain(tuple(columns), list(lines))}')
    table.write_plain_csv(folder / f'{name}.csv', tuple(columns), list(lines))


def _draw(folder: Path, name: str, figure: Any) -> None:
    (folder / 'figures').mkdir(exist_ok=True)
    path = folder / 'figures' / f'{name}.svg'
    files.atomic_write_text(path, style.figure_svg(figure))
    print(f'\n{path} shows this.')


def searches(f: flags.FlagValues, quick: bool, target: float, seeds: int, most: int, sigma: float | None = None) -> int:
    """The examples needed by every model at every size of a generated task, and the exponents. sigma: of signals."""
    task = f.dataset
    study = studies.norm(task, quick) if sigma is None else studies.signal(task, sigma, quick)
    learning = [study.learner(model, size) for size in study.sizes for model in study.models]
    for learner in learning:
        learner.available(sweep.Source(f.data_dir, f.raw_dir))  # refuses a data set that cannot serve
    cells = [jobs.Cell(needs.Search(learner, target, seeds, most)) for learner in learning]
    book = _open(f, quick=quick, target=target, seeds=seeds, most=most, **({} if sigma is None else {'sigma': sigma}))
    examples = needs.counts(_sweep(f, book, cells, jobs.__name__))
    with files.writing(book.folder):
        to, under = f'{100 * target:g} %', '' if sigma is None else f', sigma {sigma:g}'
        title = f'examples that {task} takes for an accuracy of {to}{under}, with 95 % intervals'
        _show(book.folder, 'needed', title, *needs.needed_table(study, examples))
        beside = ', and those of the claimed formulas on the same sizes' if study.claims else ''
        _show(book.folder, 'exponents', f'exponents of that{beside}', *needs.exponents(study, examples))
        if examples:
            heading = f'Examples needed for {to} ({task.replace("_", " ")}{under})'
            marks = needs.marks(study, examples)
            figure = figures.examples_needed(heading, 'bars: 95 % intervals; triangles: more, or fewer', marks)
            _draw(book.folder, 'examples_needed', figure)
    return runner.failed(book)


def ranks(f: flags.FlagValues, sigma: float, tasks: int) -> int:
    """What every scheme gets wrong after 20 examples of maps of rank 1, 2 and 5."""
    cells = [jobs.Cell(rank_fits.Fit(scheme, rank, sigma, tasks)) for scheme in rank_learners.SCHEMES for rank in rank_fits.RANKS]
    book = _open(f, sigma=sigma, tasks=tasks)
    rows = _sweep(f, book, cells, jobs.__name__)
    with files.writing(book.folder):
        for name, title, columns, lines in rank_fits.tables(rows):
            _show(book.folder, name, f'{title}; {tasks} tasks, noise {sigma:g}', columns, lines)
        _draw(book.folder, 'errors_by_rank', rank_fits.figure(rows, tasks, sigma))
    return runner.failed(book)


def images(f: flags.FlagValues, networks: Sequence[str], seeds: int | None) -> int:
    """Accuracy by number of training images, and the images needed for an accuracy."""
    try:
        dataset = data.load(f.dataset, data_dir=f.data_dir, raw_dir=f.raw_dir)
    except errors.InputError as e:
        if not str(e).startswith('unknown data set'):
            raise
        near = errors.nearest(f.dataset, GENERATED)
        suggestion = '' if near is None else f'did you mean {near!r}? '
        raise errors.InputError(f'{e}; {suggestion}generated tasks: {", ".join(GENERATED)}') from None
    ns = image_samples.sizes(len(dataset.train_images))
    book = _open(f)
    tuned = _sweep(f, book, image_samples.tuning_cells(dataset, networks, ns))
    rows = _sweep(f, book, image_samples.main_cells(dataset, networks, ns, seeds, tuned))
    with files.writing(book.folder):
        scores = image_samples.accuracies(rows)
        title = f'test accuracy (%) on {dataset.name} by number of training images, with 95 % intervals over seeds'
        _show(book.folder, 'accuracy', title, *image_samples.accuracy_table(scores))
        counts = image_samples.examples_needed(scores)
        _show(book.folder, 'needed', 'training images needed for a test accuracy, with 95 % intervals', *image_samples.needed_table(counts))
        if scores:
            figure = image_samples.figure(dataset.name, scores, counts, 1 / len(dataset.class_names))
            _draw(book.folder, 'samples_saved', figure)
    return runner.failed(book)
