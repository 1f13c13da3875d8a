"""The experiments about positions: arms that differ in what they should, what they print and draw, and a run of each, shrunk."""

import dataclasses
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from test_cli import run

from cnn_research import config
from cnn_research.data import edges
from cnn_research.report import costs, places, style
from experiments import augmentation, edge_anywhere, effects, image_size, red_green, sizes, translation

FIELDS = [field.name for field in dataclasses.fields(config.ModelConfig)]


def of(experiment):
    """All arms of an experiment on its own data, resolved."""
    e = experiment.EXPERIMENT
    return e.small, e.resolve(e.small, lambda data: ((*(data.canvas or (32, 32)), 1), 10))


def test_the_arms_of_translation_change_one_factor_or_any_combination():
    base, arms = of(translation)
    assert arms[translation.BASE] == dataclasses.replace(base, model=arms[translation.BASE].model)
    assert len(arms) == 4 * 3 * 3 * 4 + 3 and len(translation.EXPERIMENT.default) == 12
    fields = {'sharing': {'sharing'}, 'head': {'head'}, 'padding': {'padding'}, 'downsampling': {'downsampling', 'strides', 'pools'}}
    for name, levels in translation.LEVELS.items():
        changed = {f for f in FIELDS if getattr(arms[name].model, f) != getattr(base.model, f)}
        first = translation.LEVELS[translation.BASE]
        allowed = [fields[factor] for factor, one, other in zip(translation.FACTORS, levels, first) if one != other]
        assert changed <= set().union(*allowed) and len(changed) >= len(allowed)
        assert arms[name] == dataclasses.replace(base, model=arms[name].model)
    assert len({c.model for c in arms.values()}) == len(arms)


def test_the_arms_of_augmentation_differ_in_the_move_and_the_sharing():
    for base, side in ((augmentation.EXPERIMENT.small, 12), (augmentation.EXPERIMENT.full, 40)):
        arms = augmentation.EXPERIMENT.resolve(base, lambda data: ((*data.canvas, 1), 10))
        shifts = {name: c.train.shift for name, c in arms.items()}
        assert [shifts[f'local_{p}'] for p in (0, 10, 20, 30, 50, 99)] == [int(p * side / 100) for p in (0, 10, 20, 30, 50, 99)]
        for share in (0, 50):
            conv, local = arms[f'conv_{share}'], arms[f'local_{share}']
            assert dataclasses.replace(local, model=conv.model) == conv and local.model == conv.model.with_sharing('local')


def test_the_arms_of_edge_anywhere_are_networks_by_places():
    _, arms = of(edge_anywhere)
    assert len(arms) == len(edge_anywhere.NETWORKS) * len(edge_anywhere.PLACES) + 2
    for name, count in itertools.product(edge_anywhere.NETWORKS, edge_anywhere.PLACES):
        c = arms[f'{name}_{count}']
        assert c.model == edge_anywhere.NETWORKS[name]
        assert edges.parse(c.data.dataset.partition('/')[2]) == edges.Setting(positions=count)
    noisy = dataclasses.replace(edge_anywhere.BASE, data=config.DataConfig('edges/noise0.3'))
    arms = edge_anywhere.EXPERIMENT.resolve(noisy, lambda data: ((16, 16, 1), 2), ['cnn_1'])
    assert arms['cnn_1'].data.dataset == 'edges/positions1-noise0.3'


def test_the_arms_of_red_green_are_paddings_of_the_paper():
    base, arms = of(red_green)
    assert {name: c.model.padding for name, c in arms.items()} == red_green.ARMS
    assert all(dataclasses.replace(c, model=dataclasses.replace(c.model, padding=base.model.padding)) == base for c in arms.values())


def scores(effect):
    """Unseen accuracies of every combination but the dense ones: the sum of one number for each level."""
    levels = {name: at for name, at in translation.LEVELS.items() if at[0] != 'dense'}
    return {name: sum(effect.get(level, 0.0) for level in at) for name, at in levels.items()}, levels


def shares_of_variance(score, levels):
    """The table of interactions, read back."""
    lines = effects.interactions(score, translation.FACTORS, levels).splitlines()[3:]
    return {line.rsplit('  ', 1)[0].strip(): float(line.rsplit(None, 1)[1]) for line in lines}


def test_effects_that_add_are_found_and_do_not_interact():
    score, levels = scores({'shared': 0.4, 'tiled': 0.3, 'flatten': -0.2, 'stride': -0.05})
    text = effects.main_effects(score, translation.FACTORS, levels)
    adds = {line.split()[1]: line.split()[4] for line in text.splitlines()[3:]}
    assert adds['tiled'] == '-10.0' and adds['local'] == '-40.0' and adds['flatten'] == '-20.0' and adds['stride'] == '-5.0'
    assert adds['shared'] == adds['gmp'] == '–' and adds['valid'] == '+0.0'
    shares = shares_of_variance(score, levels)
    assert sum(shares[factor] for factor in translation.FACTORS) == pytest.approx(100, abs=0.2)
    assert all(abs(share) < 0.1 for name, share in shares.items() if ' x ' in name or 'three' in name)


def test_an_effect_of_two_factors_together_is_an_interaction():
    score, levels = scores({})
    score = {name: float(at[0] == 'shared' and at[1] == 'gmp') for name, at in levels.items()}
    shares = shares_of_variance(score, levels)
    assert shares['sharing x head'] > 40 and shares['padding'] == 0 and abs(shares['three and four together, and chance']) < 0.1


def probed(arm, seed, accuracy):
    data = {'canvas': [10, 10], 'train_positions': 'left'}
    row = {'arm': arm, 'seed': seed, 'status': 'ok', 'config': {'data': data}, 'position_rows': [0, 2], 'position_columns': [0, 1, 2]}
    return row | {'position_accuracy': [[accuracy, accuracy, 0.5], [accuracy, accuracy, 0.3]]}


def test_distance_is_counted_from_the_nearest_position_of_training():
    """8 x 8 on 10 x 10 has three columns; the left is the first."""
    found = effects.distances([probed('a', 0, 0.9), probed('a', 1, 0.7)])
    assert found == {'a': {0: pytest.approx(0.8), 1: pytest.approx(0.8), 2: pytest.approx(0.4)}}


def test_figures_have_their_names_and_the_same_bits_each_time():
    def drawn():
        panels = {'one': {'first': [0.1, 0.9, 0.95], 'second': [0.1, 0.5, 0.95]}, 'two': {'third': [0.3, 0.2, 0.1]}}
        yield places.curve_panels('T', 'S', [1, 4, 16], panels, 'x', 0.1, log=True), ('first', 'second', 'third', 'one', 'two')
        shares, trained = np.linspace(0.5, 1, 12).reshape(3, 4), np.eye(3, 4, dtype=bool)
        yield places.position_maps('T', 'S', {'a': shares, 'b': shares}, {'a': trained, 'b': trained}, 0.5), ('a', 'b', '75 %')
        points = [
            {'network': name, 'height': side, 'width': side, 'status': status, 'seconds': seconds, 'peak_bytes': peak}
            | {'predicted_bytes': 10**11}
            for name, side, status, seconds, peak in (
                ('mlp', 16, 'ok', 0.01, 10**9), ('mlp', 32, 'ok', 0.02, 10**9), ('dense', 16, 'ok', 0.5, 2 * 10**9),
                ('dense', 32, 'refused', None, None),
            )
        ]  # fmt: skip
        yield costs.step_costs(points, ['mlp', 'dense'], 16 * 10**9), ('mlp', 'dense', 'this machine, 16 GB', '32 x 32')

    for (one, names), (other, _) in zip(drawn(), drawn()):
        svg = style.figure_svg(one)
        assert svg == style.figure_svg(other) and all(f'>{name}' in svg for name in names)


@pytest.mark.slow
@pytest.mark.parametrize(('experiment', 'arms', 'files', 'words'), [
    (translation, 'shared_gmp_same_max,shared_gap_same_max,shared_gmp_same_blur', ('accuracy_by_distance',), ('consistency', 'anywhere')),
    (augmentation, ','.join(f'conv_{p}' for p in (0, 10, 20, 30, 50, 99)), ('moved_training_images',), ('anywhere',)),
    (edge_anywhere, 'one_filter_1,one_filter_4,one_filter_16,one_filter_81,dense_4_copies', ('places_needed', 'accuracy_by_place'),
     ('cosine', '81 places')),
    (red_green, 'valid', (), ('similar', 'dissimilar')),
])  # fmt: skip
def test_a_run_shrunk(experiment, arms, files, words, tmp_path, capsys):
    size = '--dataset=edges/images200' if experiment is edge_anywhere else '--train_size=200'
    args = (f'--arms={arms}', '--seeds=1', '--epochs=1', size, f'--workdir={tmp_path}', '--workers=1')
    assert run(experiment, *args) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in words), out
    for name in files:
        assert (tmp_path / 'figures' / f'{name}.svg').read_text().startswith('<svg')
    rows = [json.loads(line) for line in (tmp_path / 'results.jsonl').read_text().splitlines()]
    assert sorted(row['arm'] for row in rows) == sorted(arms.split(','))
    if experiment is red_green:
        assert {'similar_accuracy', 'dissimilar_accuracy'} <= rows[0].keys()


@pytest.mark.slow
def test_image_size_times_steps_and_refuses_what_does_not_fit(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sizes, 'STEPS', 2)
    monkeypatch.setattr(image_size, 'TIMED', ((16, 16), (256, 256)))
    monkeypatch.setattr(image_size, 'NETWORKS', {name: image_size.NETWORKS[name] for name in ('dense', 'conv_gmp')})
    arms = ','.join(f'{network}_canvas_16' for network in image_size.NETWORKS)
    args = (f'--arms={arms}', '--seeds=1', '--epochs=1', '--train_size=100', f'--workdir={tmp_path}')
    assert run(image_size, *args) == 0
    points = json.loads((tmp_path / 'steps.json').read_text())['points']
    assert [(p['network'], p['status']) for p in points if p['height'] == 16] == [(name, 'ok') for name in image_size.NETWORKS]
    refused = [p for p in points if p['network'] == 'dense' and p['height'] == 256]
    assert [p['status'] for p in refused] == ['refused'] and refused[0]['predicted_bytes'] > 10**11
    out = capsys.readouterr().out
    assert 'a training step' in out and 'refused' in out
    for name in ('cost_of_a_training_step', 'accuracy_by_size'):
        assert (tmp_path / 'figures' / f'{name}.svg').read_text().startswith('<svg')


@pytest.mark.parametrize('name', ['translation', 'augmentation', 'edge_anywhere', 'red_green', 'image_size'])
def test_help_says_the_defaults_and_imports_no_jax(name):
    code = (
        f'import runpy, sys; sys.argv = ["x", "--help"]\n'
        f'try: runpy.run_module("experiments.{name}", run_name="__main__")\n'
        'except SystemExit as e: print(e.code, "jax" in sys.modules, "matplotlib" in sys.modules)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == '0 False False'
    default = {'edge_anywhere': 'edges', 'red_green': 'red_green'}.get(name, 'digits')
    assert f'set ({default})' in ' '.join(done.stdout.split())
    assert ('(those above)' in done.stdout) == (name in ('translation', 'image_size'))


@pytest.mark.parametrize(('experiment', 'args', 'words'), [
    (red_green, ('--dataset=mnist',), 'red_green is about red_green alone'),
    (red_green, ('--canvas=40', '--train_positions=left'), 'positions of its own'),
    (red_green, ('--shift=2',), 'near unseen positions'),
    (red_green, ('--padding=SAME',), 'every arm of red_green sets padding itself'),
    (red_green, ('--tune',), 'is none of them'),
    (edge_anywhere, ('--dataset=digits',), 'is about edges'),
    (edge_anywhere, ('--kernel_size=5',), 'sets kernel_size itself'),
    (image_size, ('--canvas=32',), 'sets canvas itself'),
    (augmentation, ('--unseen_positions=right',), 'near unseen positions'),
    (edge_anywhere, ('--dataset=edges/noise7',), 'noise from 0 to 1'),
    (translation, ('--downsampling=aps',), 'sets downsampling itself'),
    (augmentation, ('--downsampling=aps',), 'max, blur, polyphase'),
    (translation, ('--arms=shared_gmp',), 'shared_gmp_same_max'),
    (translation, ('--shift=1',), 'near unseen positions'),
    (augmentation, ('--canvas=none',), 'give one'),
    (augmentation, ('--patience=0',), 'patience must be a whole number'),
])  # fmt: skip
def test_bad_input_is_one_line_and_status_2(experiment, args, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(experiment, *args, '--seeds=1', '--epochs=1') == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and words in err, err
    assert not list(tmp_path.iterdir())
