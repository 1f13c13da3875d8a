"""Linear maps of some rank are what their formula says, and every scheme learns what it can represent and no more."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_research import rank_learners, schemes, sharing
from cnn_research.data import ranks
from experiments import jobs, rank_fits


@pytest.mark.parametrize('rank', [1, 2, 5])
def test_outputs_are_those_of_the_filters_and_the_filters_have_the_rank(rank):
    drawn = jax.tree.map(np.asarray, ranks.ranked(jax.random.key(0), 2000, rank, 0.0))
    assert drawn.x.shape == (2000, 70) and drawn.y.shape == (2000, 68) and drawn.filters.shape == (68, 3)
    for p in (0, 31, 67):
        np.testing.assert_allclose(drawn.y[:, p], drawn.x[:, p : p + 3] @ drawn.filters[p], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(drawn.x @ np.asarray(rank_learners.matrix(drawn.filters)), drawn.y, rtol=1e-3, atol=1e-4)
    assert np.linalg.matrix_rank(drawn.filters, tol=1e-4) == min(rank, 3)
    assert abs(drawn.x.mean()) < 4 / math.sqrt(drawn.x.size) and abs(drawn.x.var() - 1) < 4 * math.sqrt(2 / drawn.x.size)


def test_a_filter_of_rank_one_is_a_standard_normal_one_and_noise_has_its_deviation():
    filters = np.stack([ranks.ranked(jax.random.key(i), 1, 1, 0.0).filters[0] for i in range(300)])
    assert abs(filters.mean()) < 4 / math.sqrt(filters.size) and abs(filters.var() - 1) < 4 * math.sqrt(2 / filters.size)
    clean, noisy = (ranks.ranked(jax.random.key(0), 500, 2, sigma) for sigma in (0.0, 0.7))
    noise = np.asarray(noisy.y - clean.y)
    assert abs(noise.std() / 0.7 - 1) < 4 / math.sqrt(2 * noise.size) and (noisy.x == clean.x).all()


@pytest.mark.parametrize('name', rank_learners.SCHEMES)
def test_layers_are_those_of_the_axis(name):
    scheme, key = schemes.parse(name), jax.random.key(0)
    shapes = scheme.shapes(rank_learners.GEOMETRY, 1, 1)
    params = {what: jax.random.normal(jax.random.fold_in(key, i), shape) for i, (what, shape) in enumerate(shapes.items())}
    x = jax.random.normal(jax.random.fold_in(key, 9), (5, 70))
    expected = sharing.apply(scheme, rank_learners.GEOMETRY, params, x[:, :, None, None])[:, :, 0, 0]
    np.testing.assert_allclose(rank_learners.output(scheme, params, x), expected, rtol=1e-4, atol=1e-4)


def fit(scheme, rank, sigma=0.0, tasks=4):
    """Errors and differences of sharing in one setting."""
    rate, decay = np.full(1, 0.1, np.float32), np.zeros(1, np.float32)
    found = rank_learners.fitted(scheme, rank, np.arange(tasks, dtype=np.uint32), np.float32(sigma), rate, decay)
    return {name: np.asarray(each)[0] for name, each in zip(('errors', 'differences'), found)}


def test_settings_are_chosen_on_tasks_of_their_own(monkeypatch):
    monkeypatch.setattr(rank_learners, 'STEPS', 100)
    jax.clear_caches()
    heard: list[float] = []
    row = rank_fits.Fit('local', 2, 0.5, 3).run(None, heard.append)
    tuned = np.mean(row['tuning_errors'], axis=1)
    assert np.shape(row['tuning_errors']) == (4, 10) and np.shape(row['errors']) == np.shape(row['differences']) == (3,)
    assert row['setting'] == rank_learners.SETTINGS[int(np.argmin(tuned))] and heard
    jax.clear_caches()


def test_schemes_learn_what_they_can_represent_from_examples_without_noise():
    assert max(fit('shared', 1)['errors']) < 1e-6 and max(fit('local', 5)['errors']) < 1e-6
    assert min(fit('shared', 2)['errors']) > 0.01 and min(fit('dense', 1)['errors']) > 0.3
    assert max(fit('local', 2)['differences']) < 1e-3 < min(fit('shared', 5)['differences'])


def test_under_noise_sharing_averages_it_away():
    """A shared filter is fitted to 68 times as many numbers as a local one: least squares has 1 / 68 of its error."""
    shared, local = (np.mean(fit(scheme, 1, 0.5, 20)['errors']) for scheme in ('shared', 'local'))
    assert 30 < local / shared < 150


def test_the_error_of_a_local_layer_is_that_of_least_squares():
    found = fit('local', 2, 0.5, 1)['errors'][0]
    drawn = jax.tree.map(np.asarray, ranks.ranked(jax.random.fold_in(jax.random.key(np.uint32(0)), 0), 20, 2, 0.5))
    solved = np.stack([np.linalg.lstsq(drawn.x[:, p : p + 3], drawn.y[:, p], rcond=None)[0] for p in range(68)])
    expected = np.sum((solved - drawn.filters) ** 2) / np.sum(drawn.filters**2)
    assert found == pytest.approx(expected, rel=1e-3)


def test_the_difference_of_sharing_forgets_how_large_filters_are():
    filters = jax.random.normal(jax.random.key(0), (68, 3))
    same = jnp.broadcast_to(filters[:1], (68, 3))
    assert float(rank_learners.difference(filters, -3 * filters)) == pytest.approx(0, abs=1e-6)
    assert float(rank_learners.difference(same, 2 * same)) == pytest.approx(0, abs=1e-6)
    assert 0.3 < float(rank_learners.difference(filters, same)) < 1.1


def test_tables_and_figure_have_every_scheme_and_rank():
    cells = [jobs.Cell(rank_fits.Fit(scheme, rank, 0.0, 3)) for scheme in rank_learners.SCHEMES for rank in rank_fits.RANKS]
    assert len({cell.name for cell in cells}) == len(cells)
    rows = [
        {'status': 'ok', 'config': cell.config.to_json(), 'errors': [0.1, 0.2, 0.3], 'differences': [0.5, 0.5, 0.5]} for cell in cells[:-1]
    ]
    (_, title, columns, lines), (_, _, _, other) = rank_fits.tables(rows)
    assert 'variance' in title and columns == ('scheme', 'rank 1', 'rank 2', 'rank 5') and len(lines) == len(rank_learners.SCHEMES)
    assert lines[0] == ('shared', *['20.00 ± 24.84'] * 3) and lines[-1][-1] == '–' and other[0][1] == '0.50 ± 0.00'
    figure = rank_fits.figure(rows, 3, 0.0)
    assert len(figure.axes) == 2 and figure.axes[0].get_ylim()[0] <= 0
