"""The configuration: what it refuses, what it keeps through JSON, and the changes that arms make."""

import dataclasses
import functools
import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_research import config, cost, errors, geometry, ops
from cnn_research.config import Config, DataConfig, ModelConfig, TrainConfig

SHARING = 'shared, coordinates, tiled:HxW, low_rank:K[:row_column][:free], averaged:STEPS, local, masked_dense, dense'
HEADS = 'flatten, gap, gmp'
SCHEMES = ('shared', 'coordinates', 'tiled:2x1', 'low_rank:2', 'low_rank:1:row_column:free', 'averaged:2', 'local', 'masked_dense', 'dense')
POSITIONS = 'left, right, top, bottom, center, any'
ONE = {'features': (2,), 'kernel_sizes': (3,), 'strides': (1,), 'pools': (1,), 'sharing': ('shared',)}


@st.composite
def model_configs(draw, most=3, stages=2):
    """Networks of up to so many stages, with widths, kernels and strides from 1 to `most`."""
    count, numbers = draw(st.integers(0, stages)), st.integers(1, most)
    fields = {name: draw(st.tuples(*[numbers] * count)) for name in ('features', 'kernel_sizes', 'strides', 'pools')}
    fields['sharing'] = draw(st.tuples(*[st.sampled_from(SCHEMES)] * count))
    choices = {'padding': geometry.PADDINGS, 'norm': config.NORMS, 'head': config.HEADS, 'downsampling': config.DOWNSAMPLING}
    fields |= {name: draw(st.sampled_from(known)) for name, known in choices.items()}
    return ModelConfig(**fields, hidden=tuple(draw(st.lists(numbers, max_size=2))), biases=draw(st.sampled_from(config.BIASES)))


@st.composite
def data_configs(draw):
    """Data with and without a canvas."""
    canvas = draw(st.none() | st.tuples(st.integers(1, 99), st.integers(1, 99)))
    positions = st.sampled_from(config.POSITIONS)
    seen = draw(positions) if canvas else None
    unseen = draw(st.none() | positions) if canvas else None
    probe = draw(st.booleans()) if canvas else False
    return DataConfig(draw(st.text()), draw(st.none() | st.integers(1, 10**9)), canvas, seen, unseen, probe)


TRAIN_CONFIGS = st.builds(
    TrainConfig,
    epochs=st.integers(1, 10**6),
    batch_size=st.integers(1, 10**6),
    optimizer=st.sampled_from(config.OPTIMIZERS),
    learning_rate=st.floats(1e-30, 1e29),
    schedule=st.sampled_from(config.SCHEDULES),
    warmup=st.floats(0, 1, exclude_max=True),
    weight_decay=st.floats(0, 1e29),
    shift=st.integers(0, 10**9),
    flip=st.booleans(),
    relax_epoch=st.none() | st.just(0),
    relax_to=st.sampled_from(SCHEMES),
    passes=st.integers(1, 10**9),
    watch=st.booleans(),
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.builds(Config, model_configs(99, 5), data_configs(), TRAIN_CONFIGS))
def test_json_gives_back_the_same_configuration(c):
    text = json.dumps(c.to_json(), allow_nan=False)
    back = Config.from_json(json.loads(text))
    assert back == c and hash(back) == hash(c)
    assert json.loads(text) == c.to_json()  # JSON values only, so that what is read equals what was written


def without(tree, part, field):
    return {**tree, part: {name: value for name, value in tree[part].items() if name != field}}


TREE = Config().to_json()
OTHER = 'another version of this package may have written these other fields: give another --workdir'
NESTED = functools.reduce(lambda inner, _: [inner], range(5000), 1)
HUGE = 10**5000  # has more digits than Python writes


@pytest.mark.parametrize(
    ('tree', 'lines'),
    [
        (None, ['configuration must be a JSON object with the fields model, data, train, got None']),
        ([1, 2], ['configuration must be a JSON object with the fields model, data, train, got [1, 2]']),
        ({'model': TREE['model'], 'train': TREE['train']}, ['configuration lacks data', OTHER]),
        ({**TREE, 'data': 3}, [f'data must be a JSON object with the fields {", ".join(TREE["data"])}, got 3']),
        (without(TREE, 'train', 'passes'), ['train lacks passes', OTHER]),
        (
            {**TREE, 'data': {**TREE['data'], 'canvass': None}},
            [f"unknown field of data 'canvass': did you mean 'canvas'? known: {', '.join(TREE['data'])}", OTHER],
        ),
        (
            {
                'model': {**TREE['model'], 'features': [16, '32'], 'head': ['gap'], 'hidden': 3},
                'data': {**TREE['data'], 'dataset': 7, 'train_size': True, 'canvas': [8, [8]], 'train_positions': 'left'},
                'train': {**TREE['train'], 'epochs': '10', 'warmup': math.nan, 'learning_rate': 10**400, 'flip': 0, 'watch': 'no'},
            },
            [
                "features must be a whole number of at least 1, got '32'",
                'hidden must be a tuple with one entry per layer, got 3',
                f"unknown head ['gap']; known: {HEADS}",
                'dataset must be text, got 7',
                'train_size must be a whole number of at least 1, got True',
                'canvas must be a whole number of at least 1, got [8]',
                "epochs must be a whole number of at least 1, got '10'",
                f'learning_rate must be a finite number at least 1e-30 and below 1e+30, got 1{"0" * 149} ... {"0" * 40}',
                'warmup must be a finite number at least 0.0 and below 1.0, got nan',
                'flip must be True or False, got 0',
                "watch must be True or False, got 'no'",
            ],
        ),
        (
            {**TREE, 'train': {**TREE['train'], 'epochs': HUGE, 'relax_epoch': 1}, 'model': {**TREE['model'], 'strides': [1, NESTED]}},
            [
                'strides must be a whole number of at least 1, got a value too long to be written (list)',
                'epochs must be at most 1,000,000,000, got a value too long to be written (int)',
            ],
        ),
    ],
    ids=['nothing', 'a list', 'without a part', 'a number for a part', 'without a field', 'another field', 'wrong kinds', 'huge'],
)
def test_all_that_is_wrong_with_what_a_file_brings_is_said_at_once(tree, lines):
    with pytest.raises(errors.InputError) as refused:
        Config.from_json(tree)
    assert str(refused.value).split('\n') == lines == list(refused.value.args)


def test_a_name_that_no_file_can_hold_is_no_data_set():
    with pytest.raises(errors.InputError, match=re.escape(r"dataset must be text, got '\ud800'")):
        DataConfig('\ud800')


@pytest.mark.parametrize('part', [ModelConfig(), DataConfig(), TrainConfig(), Config()], ids=lambda p: type(p).__name__)
def test_configurations_are_frozen(part):
    for field in dataclasses.fields(part):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, field.name, None)


@pytest.mark.parametrize('value', [0, -1, 1.0, True, '3', None])
@pytest.mark.parametrize('field', ['features', 'kernel_sizes', 'strides', 'pools', 'hidden'])
def test_a_size_that_is_no_count_is_refused_by_name(field, value):
    message = re.escape(f'{field} must be a whole number of at least 1, got {value!r}')
    with pytest.raises(errors.InputError, match=message):
        ModelConfig(**{**ONE, field: (value,)})


@pytest.mark.parametrize('value', [0, -5, 2.0, True])
@pytest.mark.parametrize(
    ('make', 'field'),
    [(TrainConfig, 'epochs'), (TrainConfig, 'batch_size'), (DataConfig, 'train_size'),
     (lambda canvas: DataConfig(canvas=(8, canvas), train_positions='any'), 'canvas')],
    ids=['epochs', 'batch_size', 'train_size', 'canvas'],
)  # fmt: skip
def test_a_count_that_is_none_is_refused_by_name(make, field, value):
    with pytest.raises(errors.InputError, match=f'{field} must be a whole number of at least 1'):
        make(**{field: value})


@pytest.mark.parametrize(
    ('field', 'values', 'bound'),
    [
        ('learning_rate', (0.0, -1e-3, float('nan'), float('inf')), 'at least 1e-30 and below 1e\\+30'),
        ('weight_decay', (-1e-9, float('nan'), float('inf')), 'at least 0.0 and below 1e\\+30'),
        ('warmup', (-0.1, 1.0, float('nan')), 'at least 0.0 and below 1.0'),
    ],
    ids=['learning_rate', 'weight_decay', 'warmup'],
)
def test_a_number_out_of_its_bounds_is_refused_with_the_bounds(field, values, bound):
    for value in values:
        with pytest.raises(errors.InputError, match=f'{field} must be a finite number {bound}, got {value}'):
            TrainConfig(**{field: value})


@pytest.mark.parametrize(
    ('make', 'names', 'known'),
    [
        (lambda: ModelConfig(sharing=('shared', 'tied')), "sharing scheme 'tied': did you mean 'tiled:HxW'?", SHARING),
        (lambda: ModelConfig(padding='same'), "padding 'same': did you mean 'SAME'?", 'VALID, SAME, CIRCULAR, FULL, HALF'),
        (lambda: ModelConfig(norm='layer'), "norm 'layer';", 'none, batch'),
        (lambda: ModelConfig(head='mean'), "head 'mean';", HEADS),
        (lambda: TrainConfig(optimizer='lamb'), "optimizer 'lamb';", 'adam, sgd, adadelta'),
        (lambda: TrainConfig(schedule='step'), "schedule 'step';", 'cosine, constant'),
        (lambda: DataConfig('a', None, (9, 9), 'up'), "train_positions 'up';", POSITIONS),
        (lambda: DataConfig('a', None, (9, 9), 'any', 'up'), "unseen_positions 'up';", POSITIONS),
    ],
    ids=['sharing', 'padding', 'norm', 'head', 'optimizer', 'schedule', 'train_positions', 'unseen_positions'],
)  # fmt: skip
def test_an_unknown_name_lists_the_known_and_suggests_the_nearest(make, names, known):
    with pytest.raises(errors.InputError, match=f'^unknown {re.escape(names)} known: {re.escape(known)}$'):
        make()


def test_positions_and_canvas_need_each_other():
    for field in ('train_positions', 'unseen_positions'):
        with pytest.raises(errors.InputError, match=f'{field} needs a canvas'):
            DataConfig(**{field: 'left'})
    with pytest.raises(errors.InputError, match=f'a canvas needs train_positions; known: {POSITIONS}'):
        DataConfig(canvas=(16, 16))


@pytest.mark.parametrize('field', ONE)
def test_a_stage_without_an_entry_is_refused(field):
    with pytest.raises(errors.InputError, match=f"every stage needs one entry of each field, got .*'{field}': 0"):
        ModelConfig(**{**ONE, field: ()})


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: ModelConfig(features=[16, 32]), 'features must be a tuple with one entry per stage'),
        (lambda: ModelConfig(hidden=[64]), 'hidden must be a tuple with one entry per layer'),
        (lambda: ModelConfig().with_sharing('dense', 2), 'no stage 2 in a network of 2 stages'),
        (lambda: ModelConfig().with_sharing('dense', -3), 'no stage -3 in a network of 2 stages'),
        (lambda: ModelConfig().stacked(0), 'depth must be a whole number of at least 1, got 0'),
        (lambda: DataConfig(canvas=(8,), train_positions='any'), r'canvas must be \(height, width\) in pixels, got \(8,\)'),
        (lambda: DataConfig(canvas=[8, 8], train_positions='any'), r'canvas must be \(height, width\) in pixels, got \[8, 8\]'),
    ],
)  # fmt: skip
def test_what_has_the_wrong_shape_is_refused(make, message):
    with pytest.raises(errors.InputError, match=message):
        make()


def test_sharing_is_changed_in_the_stages_named_and_nowhere_else():
    model = dataclasses.replace(ModelConfig().stacked(2), head='gmp', hidden=(7,))
    S, D = 'shared', 'dense'
    for stages, expected in [((), (D, D, D, D)), ((0,), (D, S, S, S)), ((-1,), (S, S, S, D)), ((1, -2), (S, D, D, S))]:
        assert model.with_sharing('dense', *stages) == dataclasses.replace(model, sharing=expected)


def test_the_kernel_size_is_changed_in_every_stage_and_nothing_else():
    model = ModelConfig(features=(4, 8), kernel_sizes=(3, 5), head='gap')
    assert model.with_kernel_size(7) == dataclasses.replace(model, kernel_sizes=(7, 7))


def test_stacking_repeats_stages_but_strides_and_pools_once():
    model = ModelConfig(features=(4, 8), kernel_sizes=(3, 2), strides=(2, 1), pools=(1, 3), sharing=('shared', 'local'))
    assert model.stacked(1) == model
    stacked = model.stacked(2)
    assert [tuple(stage) for stage in stacked.stages()] == [
        (4, 3, 2, 1, 'shared'), (4, 3, 1, 1, 'shared'), (8, 2, 1, 1, 'local'), (8, 2, 1, 3, 'local'),
    ]  # fmt: skip
    ends = [cost.layers(m, (24, 24, 1), 10)[-2].output for m in (model, stacked, model.stacked(3))]
    assert ends == [(4, 4, 8)] * 3


@pytest.mark.parametrize(('depth', 'seen'), [(1, 3), (2, 5), (3, 7)])
def test_a_stack_of_3x3_sees_what_one_larger_filter_sees(depth, seen):
    def seen_by_the_middle(model):
        y = np.eye(13 * 13, dtype=np.float32).reshape(-1, 13, 13, 1)  # one image for each pixel
        for stage in model.stages():
            y = ops.shared(y, np.ones((stage.kernel_size, stage.kernel_size, 1, 1), np.float32))
        return np.asarray(y)[:, 6, 6, 0].reshape(13, 13) != 0

    one = ModelConfig(**{**ONE, 'features': (1,)})
    window = np.zeros((13, 13), bool)
    window[6 - seen // 2 : 7 + seen // 2, 6 - seen // 2 : 7 + seen // 2] = True
    np.testing.assert_array_equal(seen_by_the_middle(one.stacked(depth)), window)
    np.testing.assert_array_equal(seen_by_the_middle(one.with_kernel_size(seen)), window)


def test_what_the_command_line_needs_for_help_imports_no_jax():
    modules = 'ablation, config, cost, geometry, ledger, sweep'
    code = f"import sys; from cnn_research import {modules}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
