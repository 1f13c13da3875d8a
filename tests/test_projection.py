"""Back along the axis: projections undo embeddings, are least squares, and convness stands beside its chance level."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from test_sharing import fitting, geometries, random_params

from cnn_research import embedding, errors, projection, schemes, sharing
from cnn_research.geometry import PADDINGS, Geometry


def connected(scheme, g, params):
    """The kernel per position at its connected taps, zero elsewhere."""
    kernel = np.asarray(sharing.expand(scheme, g, {name: jnp.asarray(leaf) for name, leaf in params.items()}))
    return np.where(g.mask()[..., None, None], kernel, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('source', 'through'),
    [('shared', 'dense'), ('shared', 'low_rank:2'), ('tiled:2x2', 'local'), ('tiled:2x3', 'dense'),
     ('low_rank:2:free', 'local'), ('low_rank:2:free', 'masked_dense'), ('local', 'dense'), ('masked_dense', 'dense')],
)  # fmt: skip
@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(g=geometries())
def test_a_projection_undoes_an_embedding(source, through, g):
    scheme, middle = fitting(source, g), fitting(through, g)
    params = random_params(scheme, g, 2, 3, np.float32) | {'bias': jnp.arange(3.0)}
    back = projection.project(embedding.embed(params, scheme, middle, g), middle, scheme, g)
    if isinstance(scheme, schemes.LowRank) and g.mask().all((2, 3)).sum() < scheme.rank:
        assert back.residual < 0.5  # a local optimum: too few positions see the whole filter to start from
        return
    expected = connected(scheme, g, params)
    np.testing.assert_allclose(connected(scheme, g, back.params), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(back.params['bias'], [0, 1, 2])
    assert back.residual < 1e-5


@pytest.mark.parametrize('padding', PADDINGS)
@pytest.mark.parametrize('source', ['local', 'masked_dense', 'dense'])
@pytest.mark.parametrize('target', ['shared', 'tiled:2x3'])
def test_nothing_tied_is_nearer_than_the_projection(source, target, padding):
    """The residual is that of numpy's least squares over the tied kernels, with one unknown each."""
    g, old, new = Geometry((5, 6), (3, 2), (1, 2), padding), schemes.parse(source), schemes.parse(target)
    params = random_params(old, g, 1, 1, np.float32)
    shapes = new.shapes(g, 1, 1)
    unknowns = np.eye(int(np.prod(shapes['kernel']))).reshape(-1, *shapes['kernel'])
    design = np.stack([np.asarray(sharing.matrix(g, sharing.expand(new, g, {'kernel': jnp.asarray(one)}))).ravel() for one in unknowns])
    if source == 'local':
        goal = sharing.matrix(g, params['kernel'])
    else:
        goal = params['kernel'] * (sharing.locality_mask(g) if source == 'masked_dense' else 1)
    goal = np.asarray(goal, np.float64).ravel()
    best, *_ = np.linalg.lstsq(design.T, goal, rcond=None)
    found = projection.project(params, old, new, g)
    seen = np.abs(design).sum(1) > 0  # a tap that always lies on padding may be anything
    np.testing.assert_allclose(found.params['kernel'].ravel()[seen], best[seen], rtol=1e-4, atol=1e-5)
    assert found.residual == pytest.approx(np.linalg.norm(design.T @ best - goal) / np.linalg.norm(goal), rel=1e-5)


def test_the_best_rank_is_that_of_the_singular_values():
    g = Geometry((6, 5), (3, 2), padding='VALID')
    params = random_params(schemes.Local(), g, 2, 3, np.float32)
    flat = np.asarray(params['kernel']).reshape(g.positions[0] * g.positions[1], -1)
    values = np.linalg.svd(flat.astype(np.float64), compute_uv=False)
    for rank in (1, 3, 16):
        found = projection.project(params, schemes.Local(), schemes.LowRank(rank, free=True), g)
        assert found.residual == pytest.approx(np.sqrt(np.sum(values[rank:] ** 2) / np.sum(values**2)), rel=1e-4, abs=1e-6)


def test_a_higher_rank_is_nearer_where_filters_see_padding():
    g = Geometry((5, 5), (3, 3))
    params = random_params(schemes.Local(), g, 1, 3, np.float32)
    found = [projection.project(params, schemes.Local(), schemes.LowRank(rank, free=True), g) for rank in (1, 2, 4, 8)]
    residuals = [one.residual for one in found]
    assert residuals == sorted(residuals, reverse=True) and residuals[0] > residuals[-1] + 0.1
    for one, rank in zip(found, (1, 2, 4, 8)):  # the residual is the distance of what was found
        difference = connected(schemes.LowRank(rank, free=True), g, one.params) - connected(schemes.Local(), g, params)
        expected = np.linalg.norm(difference) / np.linalg.norm(connected(schemes.Local(), g, params))
        assert one.residual == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize('padding', PADDINGS)
@pytest.mark.parametrize('name', ['local', 'masked_dense', 'dense'])
def test_chance_is_what_random_layers_have(name, padding):
    g, scheme = Geometry((6, 5), (3, 3), padding=padding), schemes.parse(name)
    found = [projection.convness(random_params(scheme, g, 4, 8, np.float32, seed), scheme, g) for seed in range(20)]
    assert len({one.chance for one in found}) == 1
    assert np.mean([one.convness for one in found]) == pytest.approx(found[0].chance, rel=0.05)


@pytest.mark.parametrize('padding', PADDINGS)
@pytest.mark.parametrize('name', ['tiled:2x3', 'low_rank:2', 'low_rank:3:row_column:free'])
def test_chance_is_what_random_kernels_of_shared_schemes_have(name, padding):
    g, scheme = Geometry((7, 8), (3, 2), (1, 2), padding), schemes.parse(name)
    params = random_params(scheme, g, 4, 8, np.float32)
    found = []
    for seed in range(40):
        params['kernel'] = random_params(scheme, g, 4, 8, np.float32, seed)['kernel']
        found.append(projection.convness(params, scheme, g))
    assert len({one.chance for one in found}) == 1
    assert np.mean([one.convness for one in found]) == pytest.approx(found[0].chance, rel=0.05)


def test_chance_between_tiled_layers():
    g, old, new = Geometry((9, 8), (3, 3)), schemes.parse('tiled:4x6'), schemes.parse('tiled:2x2')
    residuals = [projection.project(random_params(old, g, 3, 6, np.float32, seed), old, new, g).residual for seed in range(40)]
    assert 1 - np.mean(np.square(residuals)) == pytest.approx(projection.chance(old, new, g, 3, 6), rel=0.05)
    assert projection.chance(schemes.Shared(), schemes.Shared(), g, 3, 6) == pytest.approx(1)


def test_a_layer_of_zeros_is_a_convolution_and_one_that_is_not_finite_nothing():
    g = Geometry((4, 5), (3, 2))
    params = {'kernel': np.zeros((4, 5, 3, 2, 1, 2), np.float32)}
    found = projection.convness(params, schemes.Local(), g, matching=True)
    assert found.convness == found.matched == 1
    params['kernel'][0, 0, 0, 0] = np.nan
    with pytest.raises(errors.InputError, match='weights that are not finite'):
        projection.project(params, schemes.Local(), schemes.LowRank(2, free=True), g)


@pytest.mark.parametrize('name', ['local', 'dense'])
def test_a_convolution_has_convness_one_in_any_order_of_its_channels(name):
    g, scheme = Geometry((5, 4), (3, 3)), schemes.parse(name)
    shared = random_params(schemes.Shared(), g, 2, 6, np.float32)
    local = embedding.embed(shared, schemes.Shared(), schemes.Local(), g)
    assert projection.convness(embedding.embed(local, schemes.Local(), scheme, g), scheme, g).convness == pytest.approx(1, abs=1e-9)
    rng, kernel = np.random.default_rng(0), np.array(local['kernel'])
    for i, j in np.ndindex(g.positions):
        kernel[i, j] = kernel[i, j][..., rng.permutation(6)]
    mixed = embedding.embed({'kernel': jnp.asarray(kernel)}, schemes.Local(), scheme, g)
    found = projection.convness(mixed, scheme, g, matching=True)
    assert found.convness < 0.6 and found.matched == pytest.approx(1, abs=1e-9)
    assert found.chance < found.matched_chance < 0.6


@pytest.mark.parametrize('name', ['local', 'dense'])
def test_matching_finds_nothing_in_noise_beyond_its_chance_level(name):
    g, scheme = Geometry((6, 6), (3, 3)), schemes.parse(name)
    found = [projection.convness(random_params(scheme, g, 2, 6, np.float32, seed), scheme, g, matching=True) for seed in (3, 4, 5)]
    for one in found:
        assert one.matched == pytest.approx(one.matched_chance, rel=0.15) and one.matched > 1.5 * one.chance


def test_what_has_no_projection_says_what_has():
    g = Geometry((4, 4), (3, 3))
    params = random_params(schemes.Local(), g, 1, 1, np.float32)
    for name in ('dense', 'low_rank:2', 'low_rank:2:row_column:free', 'coordinates'):
        with pytest.raises(
            errors.InputError, match=f'no projection onto {name}; there is one onto: shared, tiled, low_rank:K:free, local, masked'
        ):
            projection.project(params, schemes.Local(), schemes.parse(name), g)
    with pytest.raises(errors.InputError, match='no chance level for local'):
        projection.chance(schemes.Dense(), schemes.Local(), g, 1, 1)
