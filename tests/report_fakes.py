"""Made-up but lifelike results for the tests of the report."""

import numpy as np

from cnn_research.report import figures
from cnn_research.report.table import has_unseen, summarise

SIX = {  # arm -> (weights, test accuracy, unseen accuracy)
    'conv_gmp': (5_130, 0.973, 0.948),
    'conv_flat': (21_514, 0.969, 0.412),
    'local_gmp': (186_250, 0.951, 0.905),
    'local_flat': (202_634, 0.957, 0.287),
    'dense_matched': (20_906, 0.941, 0.118),
    'dense_wide': (205_322, 0.952, 0.124),
}
TWELVE = {
    'k1_shared': (1_482, 0.655, None), 'k3_shared': (5_130, 0.973, None), 'k5_shared': (11_274, 0.976, None),
    'k7_shared': (20_490, 0.974, None), 'k9_shared': (32_778, 0.971, None), 'k3_dilated_shared': (5_130, 0.968, None),
    'k1_local': (60_222, 0.881, None), 'k3_local': (186_250, 0.951, None), 'k5_local': (402_102, 0.955, None),
    'k7_local': (725_880, 0.953, None), 'dense_matched': (20_906, 0.941, None), 'dense_wide': (205_322, 0.952, None),
}  # fmt: skip


def fake_rows(arms, seeds=5, lone=None):
    """Result rows; the second arm's last seed diverged, and the arm `lone` ran with one seed only."""
    rng = np.random.default_rng(7)
    rows = []
    for index, (arm, (weights, test, unseen)) in enumerate(arms.items()):
        for seed in range(1 if arm == lone else seeds):
            test_accuracy, unseen_accuracy = (
                None if mean is None else float(np.clip(rng.normal(mean, 0.004 + 0.12 * (1 - mean)), 0, 1)) for mean in (test, unseen)
            )
            row = {
                'experiment': 'weight_sharing', 'cell': f'{arm}-{seed}', 'arm': arm, 'seed': seed, 'purpose': 'main',
                'dataset': 'digits', 'train_size': 1237, 'learning_rate': 0.003 if index % 2 else 0.01,
                'status': 'ok', 'weights': weights, 'connections': 24 * weights + 12, 'macs': 23 * weights,
                'train_loss': float(rng.uniform(0.01, 0.1)), 'train_accuracy': min(1.0, test + 0.025),
                'validation_loss': 0.1, 'validation_accuracy': test_accuracy, 'test_loss': float(rng.uniform(0.1, 0.2)),
                'test_accuracy': test_accuracy, 'unseen_loss': None, 'unseen_accuracy': unseen_accuracy, 'epochs': 30,
                'seconds': float(rng.uniform(3, 40)), 'git': '0123abc', 'jax': '0.10.2', 'device': 'cpu',
            }  # fmt: skip
            if index == 1 and seed == seeds - 1 and seeds > 1:
                row.update({key: None for key in row if key.endswith(('_loss', '_accuracy'))}, status='diverged')
            rows.append(row)
    return rows


def fake_history(rows, epochs=30):
    """Epoch rows for result rows: a rise to the run's accuracy, and an end after nine epochs for a diverged run."""
    rng = np.random.default_rng(8)
    history = []
    for row in rows:
        final, pace = row['validation_accuracy'] or 0.9, rng.uniform(0.1, 0.35)
        for epoch in range(1, epochs + 1):
            share = 1 - np.exp(-pace * epoch)
            lost = row['status'] == 'diverged' and epoch > 9
            loss = None if lost else float(2.3 * np.exp(-pace * epoch) + 0.02 + rng.uniform(0, 0.01))
            accuracy = 0.1 if lost else float(np.clip(0.1 + (final - 0.1) * share + rng.normal(0, 0.008), 0, 1))
            history.append({
                'cell': row['cell'], 'arm': row['arm'], 'seed': row['seed'], 'purpose': row['purpose'],
                'learning_rate': row['learning_rate'], 'epoch': epoch, 'train_loss': loss, 'train_accuracy': accuracy,
                'validation_loss': loss, 'validation_accuracy': accuracy, 'seconds': 0.1 * epoch,
            })  # fmt: skip
    return history


def fake_example(arm='conv_gmp', count=8, size=3, channels=1):
    """A drawn ring, random filters, and the maps plain correlation makes of it."""
    rng = np.random.default_rng(size)
    y, x = np.mgrid[-1:1:28j, -1:1:28j]
    image = np.exp(-(((np.hypot(x, 1.3 * y) - 0.5) / 0.13) ** 2))[..., None] * np.linspace(1, 0.6, channels)
    filters = rng.normal(0, 0.3, (count, size, size, channels))
    windows = np.lib.stride_tricks.sliding_window_view(image, (size, size), (0, 1))
    maps = np.einsum('hwcij,fijc->fhw', windows, filters)
    return figures.FilterExample(arm, filters, image, maps, f'the same {size} × {size} filter at every position')


def summary_of(arms, **options):
    return summarise(fake_rows(arms, **options), list(arms))


def every_figure(arms, lone=None):
    rows = fake_rows(arms, lone=lone)
    summary, history = summarise(rows, list(arms)), fake_history(rows)
    drawn = [figures.accuracy_against_weights(summary)]
    drawn += [figures.learning_curves(history, list(arms), measure) for measure in ('validation_accuracy', 'train_loss')]
    return [*drawn, figures.seen_against_unseen(summary, 0.1)] if has_unseen(summary) else drawn
