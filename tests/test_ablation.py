"""The experiments' tables: arms differ from their base in what is studied and in nothing else; matched arms match."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_research import ablation, cost, errors
from cnn_research.config import HEADS, DataConfig, ModelConfig
from experiments import dense_replacement, filter_size, relaxation, sharing_axis, weight_sharing

EXPERIMENTS = {e.EXPERIMENT.name: e.EXPERIMENT for e in (weight_sharing, filter_size, dense_replacement, sharing_axis, relaxation)}
STAGES = {'features', 'kernel_sizes', 'strides', 'pools', 'sharing'}
# What every arm may change, and what it must change to be worth an arm: all that is named.
STUDIED = {
    'weight_sharing': {
        'conv_flatten': set(), 'conv_gmp': {'head'}, 'local_flatten': {'sharing'}, 'local_gmp': {'sharing', 'head'},
        'dense_flatten': {'sharing'}, 'dense_gmp': {'sharing', 'head'},
    },
    'filter_size': {
        **{f'k{k}': {'kernel_sizes'} for k in (1, 2, 5, 7, 9)}, 'k3': set(), 'k3_stack2': STAGES, 'k3_stack3': STAGES,
        'k1_as_many_weights': {'kernel_sizes', 'features'}, 'k7_as_many_weights': {'kernel_sizes', 'features'},
        'k3_as_many_weights': {'features'}, 'k3_as_many_macs': {'features'},
    },
    'dense_replacement': {
        'conv': set(), 'dense_first': {'sharing'}, 'dense_last': {'sharing'}, 'dense_all': {'sharing'},
        'conv_matched': {'hidden'}, 'dense_all_matched': {'sharing', 'features'},
        'mlp': STAGES | {'hidden'}, 'mlp_matched': STAGES | {'hidden'}, 'hidden_head': {'hidden'},
        'pointwise_gap': STAGES | {'head'},
    },
    'sharing_axis': {
        'conv': set(), 'conv_as_many_weights': {'features'}, 'conv_as_many_macs': {'features'},
        **{arm: {'sharing'} for arm in ('coordinates', 'tiled_2', 'tiled_4', 'low_rank', 'averaged', 'local', 'dense')},
    },
    'relaxation': {
        'conv': set(), 'dense': {'sharing'},
        **{arm: {'relax_epoch'} for arm in ('freed_at_0', 'freed_at_1_4', 'freed_at_1_2', 'freed_at_3_4')},
    },
}  # fmt: skip
IMAGES = {'digits': (16, 16, 1), 'fashion_mnist': (28, 28, 1), 'cifar10': (32, 32, 3)}
ON = pytest.mark.parametrize('dataset', IMAGES)


def resolved(name, dataset, **fields):
    """The base and all arms of an experiment on a data set, after `fields` of the base's model were changed."""
    experiment = EXPERIMENTS[name]
    base = experiment.base(dataset)
    base = dataclasses.replace(base, model=dataclasses.replace(base.model, **fields))
    image = (*base.data.canvas, 1) if base.data.canvas else IMAGES[dataset]
    return base, experiment.resolve(base, lambda data: (image, 10)), image


def differing(one, other):
    """The fields in which two configurations differ."""
    return {field.name for field in dataclasses.fields(one) if getattr(one, field.name) != getattr(other, field.name)}


def weights(model, image):
    """Weights of a network for ten classes."""
    return cost.total(model, image, 10).weights


@ON
@pytest.mark.parametrize('name', EXPERIMENTS)
def test_arms_change_what_is_studied_and_nothing_else(name, dataset):
    base, arms, _ = resolved(name, dataset)
    changed = {}
    for arm, c in arms.items():
        assert c.data == base.data
        changed[arm] = differing(c.model, base.model) | differing(c.train, base.train)
    assert changed == STUDIED[name]
    compared_with = EXPERIMENTS[name].compared_with
    assert set(compared_with) | set(compared_with.values()) == set(arms)
    assert not [arm for arm, other in compared_with.items() if arm == other]
    assert len(set(arms.values())) == len(arms)


@pytest.mark.parametrize('head', HEADS)
def test_sharing_arms_are_what_their_names_say_whatever_the_base(head):
    _, arms, _ = resolved('weight_sharing', 'digits', head=head)
    schemes = {'conv': 'shared', 'local': 'local', 'dense': 'dense'}
    for arm, c in arms.items():
        scheme, named = arm.split('_')
        assert (set(c.model.sharing), c.model.head) == ({schemes[scheme]}, named), arm


@pytest.mark.parametrize('head', HEADS)
def test_perceptrons_see_every_pixel_whatever_the_base(head):
    experiment = EXPERIMENTS['dense_replacement']
    base = dataclasses.replace(experiment.full.model, head=head)
    for change in (experiment.arms['mlp'], experiment.arms['mlp_matched'].change):
        first = cost.layers(change(base), (32, 32, 3), 10)[0]
        assert first.connections == 32 * 32 * 3 * first.output[0]


@ON
@pytest.mark.parametrize('kernel_size', [3, 5])
def test_filter_arms_are_what_their_names_say_whatever_the_base(dataset, kernel_size):
    base, arms, image = resolved('filter_size', dataset, kernel_sizes=(kernel_size,) * 2)
    for k in (1, 2, 3, 5, 7, 9):
        assert arms[f'k{k}'].model == base.model.with_kernel_size(k)
    for depth in (2, 3):
        model = arms[f'k3_stack{depth}'].model
        assert set(model.kernel_sizes) == {3} and len(model.features) == depth * len(base.model.features)
        # the same maps after every stage of the base
        ends = [row.output for row in cost.layers(base.model, image, 10)]
        assert [row.output for row in cost.layers(model, image, 10)][depth - 1 :: depth] == ends[:-1]


@ON
def test_replacement_arms_are_what_their_names_say(dataset):
    base, arms, image = resolved('dense_replacement', dataset)
    models = {arm: c.model for arm, c in arms.items()}
    assert models['dense_first'].sharing == ('dense', 'shared') and models['dense_last'].sharing == ('shared', 'dense')
    assert models['dense_all'].sharing == models['dense_all_matched'].sharing == ('dense', 'dense')
    assert all(models[arm].features == () and models[arm].hidden for arm in ('mlp', 'mlp_matched'))
    # the 1 x 1 convolution is the hidden layer's twin: as wide, behind the same stages
    twin, stages = models['pointwise_gap'], base.model.stages()
    assert twin.stages()[:-1] == stages
    assert tuple(twin.stages()[-1]) == (*models['hidden_head'].hidden, 1, 1, 1, 'shared')
    for arm in ('dense_first', 'dense_last', 'dense_all'):  # the same maps
        rows = zip(cost.layers(models[arm], image, 10), cost.layers(models['conv'], image, 10))
        assert all(row.output == other.output for row, other in rows)


@ON
def test_the_controls_of_the_axis_cost_what_low_rank_costs(dataset):
    _, arms, image = resolved('sharing_axis', dataset)
    counts = {arm: cost.total(c.model, image, 10) for arm, c in arms.items()}
    assert counts['conv_as_many_weights'].weights == pytest.approx(counts['low_rank'].weights, rel=0.02)
    assert counts['conv_as_many_macs'].macs == pytest.approx(counts['low_rank'].macs, rel=0.02)
    assert (
        counts['conv'].weights < counts['tiled_2'].weights < counts['tiled_4'].weights < counts['local'].weights < counts['dense'].weights
    )


@ON
def test_matched_arms_have_as_many_weights_as_they_say(dataset):
    base, arms, image = resolved('dense_replacement', dataset)
    counts = {arm: weights(c.model, image) for arm, c in arms.items()}
    targets = [('conv_matched', 'dense_first'), ('dense_all_matched', 'dense_first'), ('mlp_matched', 'conv')]
    if image[2] == 1:  # colour makes a dense first stage larger than a dense last one
        targets.append(('conv_matched', 'dense_last'))
    for arm, target in targets:
        assert abs(counts[arm] - counts[target]) <= 0.02 * counts[target], (arm, target)
    assert counts['dense_first'] > 2 * weights(base.model, image)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(3_000, 10**7), st.sampled_from([('hidden', (16,)), ('hidden', (16, 8, 4)), ('features', (2, 3))]))
def test_a_solution_cannot_be_bettered_by_its_last_width(target, widths):
    field, shape = widths
    model = dataclasses.replace(ModelConfig(), **{field: shape})
    try:
        solved = ablation.match(model, field, target, (16, 16, 1), 10)
    except errors.InputError as e:
        assert f'no {field} within 2% of {target:,} weights' in str(e)
        return
    assert dataclasses.replace(solved, **{field: shape}) == model
    found = getattr(solved, field)
    assert abs(weights(solved, (16, 16, 1)) - target) <= 0.02 * target
    for other in (found[-1] - 1, found[-1] + 1):
        if other:
            beside = dataclasses.replace(solved, **{field: (*found[:-1], other)})
            assert abs(weights(beside, (16, 16, 1)) - target) >= abs(weights(solved, (16, 16, 1)) - target)
    if len(shape) == 3:
        assert found[0] == 2 * found[1] or found[:2] == (1, 1)  # one factor for all but the last, at least 1


@pytest.mark.parametrize('target', [1, 100])
def test_a_target_below_every_width_is_refused(target):
    model = dataclasses.replace(ModelConfig(), hidden=(16,))
    with pytest.raises(errors.InputError, match=rf'no hidden within 2% of {target} weights, nearest is \(1,\) with'):
        ablation.match(model, 'hidden', target, (16, 16, 1), 10)


def test_weights_are_freed_after_the_share_that_an_arm_names_or_not_at_all():
    for dataset in ('digits', 'fashion_mnist'):
        base, arms, _ = resolved('relaxation', dataset)
        shares = {name: c.train.relax_epoch / base.train.epochs for name, c in arms.items() if c.train.relax_epoch is not None}
        assert shares == {'freed_at_0': 0, 'freed_at_1_4': 1 / 4, 'freed_at_1_2': 1 / 2, 'freed_at_3_4': 3 / 4}
    arm = relaxation.EXPERIMENT.arms['freed_at_1_4']
    with pytest.raises(errors.InputError, match='1/4 of 18 epochs is no whole number: give --epochs a multiple of 4'):
        arm.epoch(18)


def test_an_arm_that_does_not_fit_is_refused_by_name():
    experiment = EXPERIMENTS['filter_size']
    with pytest.raises(errors.InputError, match='arm k9: a kernel of 9 is larger than its input of 8 pixels'):
        experiment.resolve(experiment.small, lambda data: ((16, 16, 1), 10))


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_the_base_follows_the_data_set(name):
    experiment = EXPERIMENTS[name]
    assert experiment.base('digits') == experiment.small
    assert experiment.base('mnist') == dataclasses.replace(experiment.full, data=DataConfig('mnist'))
