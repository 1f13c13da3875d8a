"""What a finished sweep says: the printed tables, summary.csv, figures/*.svg and report.html."""

import datetime
import platform
import re
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cnn_research import ablation, config, files, images, ledger, stats, trained
from cnn_research.data import Dataset, canvas, load
from cnn_research.report import figures, page, table

_FILTER_ARMS = 12  # more would make the figure longer than anyone scrolls
_MOST_ARMS = 16  # more dots and panels than that say nothing; such an experiment has figures of its own


def write(
    experiment: ablation.Experiment,
    book: ledger.Ledger,
    base: config.Config,
    tuned: Mapping[str, Mapping[float, float]],
    dataset: Dataset,
    command: str,
    more: Callable[[ledger.Ledger, Dataset, Sequence[Mapping], Sequence[str]], tuple[str, list]] | None = None,
) -> None:
    """Print the tables and write them, with figures, to the study's folder. All arms and seeds of the folder are shown.

    tuned: as `ablation.validation_scores` makes it; empty where nothing was tuned. more: the experiment's own text, to be printed below the
    tables, and its own figures, which come first.
    """
    rows = list(book.results().values())
    arms = [arm for arm in experiment.arms if any(row['arm'] == arm for row in rows)]
    main = [row for row in rows if row['purpose'] == 'main']
    summary = table.summarise(main, arms, experiment.compared_with, experiment.measure)
    rates = {line['learning_rate'] for line in summary}
    at = f'every arm at learning rate {base.train.learning_rate:g}' if len(rates) == 1 else 'arms at learning rates of their own'
    tables = [(f'{experiment.name} on {base.data.dataset}, {at}', summary)]
    table.write_csv(book.folder / 'summary.csv', summary)
    if tuned:
        own_rates = ablation.best_rates(tuned)
        own = table.summarise(_at_own_rates(rows, own_rates), list(own_rates), experiment.compared_with, experiment.measure)
        tables.append((f'every arm at its own best learning rate on validation data ({over_all_arms(tuned)})', own))
        table.write_csv(book.folder / 'summary_own_rate.csv', own)
    for caption, lines in tables:
        print(f'\n{caption}\n{table.format_table(lines)}')
    text, own_pictures = more(book, dataset, main, arms) if more else ('', [])
    print(f'\n{text}' if text else '', end='\n' if text else '')
    pictures = own_pictures + drawn(book, arms, main, summary, dataset, base)
    (book.folder / 'figures').mkdir(exist_ok=True)
    for name, _, markup in pictures:
        if markup.startswith('<svg'):
            files.atomic_write_text(book.folder / 'figures' / f'{re.sub(r"[^a-z]+", "_", name.lower())}.svg', markup)
    page.write_page(
        book.folder / 'report.html',
        title=experiment.name.replace('_', ' ').capitalize(),
        question=experiment.question,
        command=command,
        answer=answer(summary, main, experiment.measure),
        tables=tables,
        figures=pictures,
        facts=facts(base, main, dataset),
    )
    print(f'\n{book.folder}/report.html shows this with figures.')


def over_all_arms(tuned: Mapping[str, Mapping[float, float]]) -> str:
    """The mean validation accuracy over the tuned arms by learning rate: what the common rate is chosen by."""
    means = {rate: statistics.fmean(scores[rate] for scores in tuned.values()) for rate in ablation.RATES}
    return 'over all arms: ' + ', '.join(f'{100 * mean:.1f} % at {rate:g}' for rate, mean in means.items())


def answer(summary: table.Summary, rows: Sequence[Mapping], measure: str = 'test_accuracy') -> str:
    """The result in a few sentences: the highest mean of the measure, and the arms that these seeds do not tell from it."""
    shown = {line['arm']: line for line in summary if line['test_accuracy_mean'] is not None}
    found = {arm: table.by_seed([row for row in rows if row['arm'] == arm], measure) for arm in shown}
    intervals = {arm: stats.mean_interval(scores.values()) for arm, scores in found.items() if scores}
    if not intervals:
        return 'No cell has finished.'
    best = max(intervals, key=lambda arm: intervals[arm].mean or 0.0)
    what = 'of the test images' if measure == 'test_accuracy' else f'{table.MEASURES[measure][0]},'
    text = f'{best} has the highest mean, {_percent(intervals[best])} {what} with {shown[best]["weights"]:,} weights.'
    equal = [arm for arm in intervals if arm != best and not _told_apart(found[best], found[arm])]
    if equal:
        text += f' These seeds do not tell it from {", ".join(equal)}: the 95 % interval of the difference, paired by seed, holds zero.'
    if measure == 'test_accuracy' and table.has_unseen(list(shown.values())):
        scores = {arm: table.by_seed([row for row in rows if row['arm'] == arm], 'unseen_accuracy') for arm in shown}
        unseen = {arm: stats.mean_interval(of.values()) for arm, of in scores.items() if of}
        best, worst = (pick(unseen, key=lambda arm: unseen[arm].mean or 0.0) for pick in (max, min))
        text += f' At positions never seen in training, {best} reaches {_percent(unseen[best])}'
        text += f' and {worst} {_percent(unseen[worst])}.'
    return text


def _told_apart(best: Mapping[int, float], other: Mapping[int, float]) -> bool:
    """Whether the interval of the difference, paired by seed, lies above zero; one seed tells nothing."""
    less = stats.paired_difference(best, other)
    return less.low is not None and less.low > 0


def _percent(found: stats.Interval) -> str:
    between = '' if found.low is None or found.high is None else f' [{100 * max(found.low, 0):.1f}, {100 * min(found.high, 1):.1f}]'
    return f'{100 * (found.mean or 0.0):.1f} %{between}'


def _at_own_rates(rows: Sequence[Mapping], own_rates: Mapping[str, float]) -> list[dict]:
    """Each arm's runs at its own rate: the main ones where that is the common rate."""
    found = [row for row in rows if row['purpose'] != 'tune' and own_rates.get(row['arm']) == row['learning_rate']]
    return [{**row, 'purpose': 'own_rate'} for row in found]


def drawn(book: ledger.Ledger, arms, main, summary, dataset: Dataset, base: config.Config) -> list:
    """The figures of the page that show arm by arm, as (title, caption, markup); none where there are too many."""
    if len(arms) > _MOST_ARMS:
        return []
    against = figures.figure_svg(figures.accuracy_against_weights(summary))
    result = [('Accuracy against weights', 'Up and to the left is better.', against)]
    if table.has_unseen(summary):
        figure = figures.seen_against_unseen(summary, chance=1 / len(dataset.class_names))
        caption = 'The same test images, where training put images and where it never did.'
        result.append(('Seen and unseen positions', caption, figures.figure_svg(figure)))
    finished = {row['cell'] for row in main}
    history = [row for row in book.history() if row['cell'] in finished]
    watched = ('test_accuracy', 'distance') if base.train.watch else ()
    for measure in ('validation_accuracy', 'train_loss', *watched):
        figure = figures.learning_curves(history, arms, measure=measure)
        name = f'Learning curves: {measure.replace("_", " ")}'
        result.append((name, 'Mean over seeds; the band is the range.', figures.figure_svg(figure)))
    examples = first_layers(book, arms, main, dataset)
    if examples:
        caption = 'Filters of the first stage of the first seed, and what each makes of the first test image.'
        markup = figures.figure_img(figures.first_filters(examples), 'first-layer filters and their maps')
        result.append(('First filters', caption, markup))
    return result


def first_layers(book: ledger.Ledger, arms, main, dataset: Dataset) -> list[figures.FilterExample]:
    """For each arm with a first stage: its lowest finished seed's filters and their maps of the first test image."""
    result: list[figures.FilterExample] = []
    for arm in arms:
        done = sorted((row['seed'], row['cell']) for row in main if row['arm'] == arm and row['status'] == 'ok')
        if not done or len(result) == _FILTER_ARMS:
            continue
        cell = trained.load_cell(book.folder, done[0][1])
        image = first_image(config.Config.from_json(cell.row['config']).data, dataset)
        if cell.model.config.sharing and image.shape[2] in (1, 3):
            filters, maps = cell.first_layer(image)
            note = _NOTES.get(cell.model.config.sharing[0], 'the filters of the middle position')
            result.append(figures.FilterExample(arm, filters, image / 255, maps.transpose(2, 0, 1), note))
    return result


def first_image(of: config.DataConfig, dataset: Dataset) -> np.ndarray:
    """The first test image, uint8 [H, W, C], where training had it; of the arm's own data where that is not `dataset`."""
    image = (dataset if of.dataset == dataset.name else load(of.dataset)).test_images[0]
    if of.canvas is None:
        return image
    corner = canvas.positions(of.train_positions or 'any', image.shape[:2], of.canvas)[0]
    return np.asarray(images.place(image[None], corner[None], of.canvas)[0])


_NOTES = {
    'shared': 'the same filter at every position',
    'local': 'the filters of the middle position; every other position has its own',
    'coordinates': 'the same filter at every position; the filters of the coordinates are not shown',
    'dense': 'the weights of the unit at the middle position; every other unit has its own',
}


def facts(base: config.Config, main: Sequence[Mapping], dataset: Dataset) -> dict[str, str]:
    """What the numbers were made with, for the foot of the page."""

    def of(key):
        return ', '.join(sorted({str(row[key]) for row in main}))

    held_out = f'{len(dataset.validation_images):,} validation, {len(dataset.test_images):,} test images'
    d, t = base.data, base.train
    placed = f'{d.canvas[0]} x {d.canvas[1]}, trained at {d.train_positions}, unseen {d.unseen_positions}' if d.canvas else 'none'
    also = {'weight decay': t.weight_decay, 'patience': t.patience, 'shift': t.shift, 'flip': t.flip}
    more = ''.join(f', {name} {value}' for name, value in also.items() if value)
    return {
        'data': f'{dataset.name}: {of("train_size")} training, {held_out}',
        'canvas': placed,
        'training': f'{t.epochs} epochs, batch {t.batch_size}, {t.optimizer}, rate {t.learning_rate:g}, {t.schedule}{more}',
        'computed in': base.model.compute,
        'seeds': str(len({row['seed'] for row in main})),
        'intervals': '95 % Student t over seeds',
        'code': f'commit {of("git")}, jax {of("jax")}, Python {platform.python_version()}',
        'device': of('device'),
        'date': datetime.date.today().isoformat(),
    }
