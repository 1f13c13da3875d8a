"""What the runs of `edge_anywhere` say: accuracy by place, the learned filter beside Sobel's, and their figures."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn_research import filters, ledger, stats, trained
from cnn_research.data import edges, load
from cnn_research.report import places, style, table

Rows = Sequence[Mapping[str, Any]]
NOTHING = stats.mean_interval([])


def maps(book: ledger.Ledger, rows: Rows) -> dict[str, np.ndarray]:
    """Accuracy by position, [finished seeds, rows, columns], for every arm."""
    opened = functools.cache(load)
    found: dict[str, list[np.ndarray]] = {}
    for row in rows:
        if row['status'] == 'ok':
            dataset = opened(row['dataset'])
            cell = trained.load_cell(book.folder, row['cell'])
            side = len(edges.FREE)
            places_of = np.concatenate(edges.tested(edges.parse(row['dataset'].partition('/')[2])))
            images, labels = dataset.test_images, dataset.test_labels
            if dataset.unseen_images is not None and dataset.unseen_labels is not None:
                images, labels = np.concatenate([images, dataset.unseen_images]), np.concatenate([labels, dataset.unseen_labels])
            whole = np.empty((side, side))
            whole[tuple((places_of - edges.FREE[0]).T)] = (cell.predict(images) == labels).reshape(side**2, -1).mean(axis=1)
            found.setdefault(row['arm'], []).append(whole)
    return {arm: np.stack(seeds) for arm, seeds in found.items()}


def alikeness(book: ledger.Ledger, rows: Rows, counts: Sequence[int]) -> str:
    """The learned single filter beside Sobel's, as a cosine, by the number of places it was learned at."""
    sobel = filters.parse('sobel_vertical').ravel()
    lines = []
    for count in counts:
        cosines = []
        for row in rows:
            if row['arm'] == f'one_filter_{count}' and row['status'] == 'ok':
                kernel = np.asarray(trained.load_cell(book.folder, row['cell']).variables['params']['stage_0']['kernel']).ravel()
                cosines.append(float(kernel @ sobel / np.linalg.norm(kernel) / np.linalg.norm(sobel)))
        if cosines:
            cosine = table.interval(stats.mean_interval(cosines), 1, '+.2f')
            lines.append((str(count), cosine, f'{min(cosines):+.2f} to {max(cosines):+.2f}'))
    return f'the single filter beside sobel_vertical\n{table.plain(("places", "cosine", "lowest to highest"), lines)}' if lines else ''


def say(
    book: ledger.Ledger, rows: Rows, arms: Sequence[str], networks: Sequence[str], counts: Sequence[int], remedied: int
) -> tuple[str, list]:
    """Accuracy over all positions by network and number of places, the learned filter, and the figures.

    networks, counts: the arms are NETWORK_COUNT, and dense_COUNT_REMEDY for the number of places that is `remedied`.
    """
    by_arm = maps(book, rows)
    if not by_arm:
        return '', []
    intervals = {arm: stats.mean_interval(shares.mean(axis=(1, 2))) for arm, shares in by_arm.items()}
    shown = [(name, *(table.interval(intervals.get(f'{name}_{count}', NOTHING)) for count in counts)) for name in networks]
    for remedy in ('copies', 'images'):
        shown.append((f'dense, {remedy}', *(table.interval(intervals.get(f'dense_{count}_{remedy}', NOTHING)) for count in counts)))
    title = 'accuracy (%) over all 81 places, by the number of places in training; ±: half the 95 % t interval over seeds'
    text = f'{title}\n{table.plain(("network", *map(str, counts)), shown)}'
    anywhere = {arm: float(shares.mean()) for arm, shares in by_arm.items()}
    seeds = style.seeds_text([sum(row['arm'] == arm and row['status'] == 'ok' for row in rows) for arm in by_arm])
    whole = [name for name in networks if all(f'{name}_{count}' in anywhere for count in counts)]
    pictures = []
    if whole:
        panels = {'accuracy over all 81 places': {name: [anywhere[f'{name}_{count}'] for count in counts] for name in whole}}
        figure = places.curve_panels(
            'A vertical edge, found anywhere in the image', f'{seeds}; mean over seeds; dashed: chance', counts, panels,
            'places in training (log scale)', 0.5, log=True,
        )  # fmt: skip
        pictures.append(('Places needed', 'Always 2,000 training images.', style.figure_svg(figure)))
    named = {arm.replace(f'_{remedied}_', ', ').removesuffix(f'_{remedied}'): arm for arm in arms}
    mapped = {name: by_arm[arm].mean(axis=0) for name, arm in named.items() if arm in by_arm and name != arm}
    if mapped:
        figure = places.position_maps(
            f'Where the edge is found after training at {remedied} places',
            f'{seeds}; white: chance (50 %), dark: 100 %; outlined: training positions; number: mean over all places',
            mapped, dict.fromkeys(mapped, _trained(remedied)), 0.5,
        )  # fmt: skip
        pictures.append(('Accuracy by place', 'The middle of the edge stands there.', style.figure_svg(figure)))
    return f'{text}\n\n{alikeness(book, rows, counts)}', pictures


def _trained(count: int) -> np.ndarray:
    outlined = np.zeros((len(edges.FREE),) * 2, bool)
    outlined[tuple((edges.places(count)[0] - edges.FREE[0]).T)] = True
    return outlined
