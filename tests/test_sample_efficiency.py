"""`sample_efficiency`: cells, rows, tables, figures and the command."""

import json
import math
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_research import learners, norm_learners, signal_learners
from cnn_research.needed import Needed
from cnn_research.report.needed import Mark, examples_needed
from experiments import jobs, searches, studies

SMALL = searches.Search(signal_learners.Learning('dynamic_signal', 'shared', 4, 5, 0.2), 0.8, 2, 256)


def count(n, most=10**6, spread=0.1, random=None):
    logs = math.log(n) + spread * (random or np.random.default_rng(0)).normal(size=300)
    resamples = np.where(logs > math.log(most), np.inf, np.exp(logs))
    value = n if n <= most else math.inf
    return Needed(value, min(n * math.exp(-2 * spread), most), n * math.exp(2 * spread), 4, most, 10, resamples)


def test_the_claims_of_theory_are_those_of_the_papers():
    sizes = {'shared': [24], 'local': [128, 384], 'dense': [2048]}  # k = 16, d = 8
    assert {model: [claim(16, 8) for claim in claims.values()] for model, claims in studies.SIGNAL_CLAIMS.items()} == sizes
    norms = {model: [claim(4) for claim in claims.values()] for model, claims in studies.NORM_CLAIMS.items()}
    assert norms == {
        'conv_quadratic_sgd': [1],
        'conv_relu_sgd': [1],
        'dense_quadratic_sgd': [32**2],
        'dense_relu_sgd': [32**2],
    }  # two channels of 4 x 4


def test_tables_show_counts_ratios_and_exponents_beside_the_claims():
    study = studies.signal('dynamic_signal', 0.2, quick=False)
    power = {'shared': lambda k, d: 10 * (k + d), 'local': lambda k, d: 5 * k * d, 'dense': lambda k, d: k * k * d}
    examples = {(model, size): count(power[model](*size), most=12_000) for model in study.models for size in study.sizes}
    columns, lines = searches.needed_table(study, examples)
    by_point = {line[:2]: dict(zip(columns, line)) for line in lines}
    assert by_point['16', '16']['dense / local'].startswith('3.2 (') and by_point['16', '16']['local / shared'].startswith('4 (')
    assert by_point['32', '16']['dense'] == 'more than 12,000' and by_point['32', '16']['dense / local'].startswith('above')
    columns, lines = searches.exponents(study, examples)
    found = {line[:2]: dict(zip(columns, line)) for line in lines}
    patches, dimension = 'patches of dimension 16', 'dimension of 16 patches'
    assert float(found['local', patches]['exponent']) == pytest.approx(1, abs=0.02)
    assert found['local', patches]['claims'].startswith('k d: 1.00; k (k + d): 1.')
    assert found['dense', patches]['censored'] == '1' and float(found['dense', patches]['exponent']) == pytest.approx(2, abs=0.05)
    assert re.fullmatch(r'[\d.]+ to [\d.]+', found['shared', dimension]['95 %'])
    drawn = searches.marks(study, examples)
    assert set(drawn) == {patches, dimension} and [mark.size for mark in drawn[patches]['local']] == [8, 16, 24, 32]


@pytest.mark.parametrize(('task', 'claimed'), [('norm_comparison', True), ('norm_comparison/cifar10', False)])
def test_the_norm_studies_grow_in_inputs_and_only_noise_has_claims(task, claimed):
    study = studies.norm(task, quick=not claimed)
    sizes, axis = study.sizes, 'inputs'
    assert bool(study.claims) == claimed
    assert [study.along(axis, size) for size in sizes] == [2 * side**2 for (side,) in sizes]
    examples = {(model, size): count(3 * study.along(axis, size) ** 2) for model in study.models for size in sizes}
    columns, lines = searches.exponents(study, examples)
    assert {float(line[2]) for line in lines} == {2.0} and len(lines) == len(study.models)
    claims = {line[0]: line[-1] for line in lines}
    assert ('claims' in columns) == bool(study.claims)
    if study.claims:
        assert claims['dense_relu_sgd'] == 'D^2: 2.00' and claims['conv_relu_sgd'] == '1: 0.00' and claims['dense_relu_adam'] == '–'


@pytest.mark.parametrize('quick', [False, True])
def test_all_sizes_of_the_norm_study_are_learned(quick):
    study = studies.norm('norm_comparison', quick)
    assert len(study.sizes) > 2  # fewer have no exponent
    for learning in (study.learner(model, size) for size in study.sizes for model in study.models):
        weights = norm_learners.start(learning, jax.random.key(0))
        assert norm_learners.output(learning, weights, jnp.ones((5, learning.side, learning.side, 2))).shape == (5,)


def test_a_search_becomes_a_row_that_says_how_it_was_made(monkeypatch):
    monkeypatch.setattr(learners, 'STEPS', 100)
    jax.clear_caches()
    cell, heard = jobs.Cell(SMALL), []
    row = json.loads(json.dumps(jobs.done('sample_efficiency', cell, None, heard.append)))
    jax.clear_caches()
    assert row['status'] == 'ok' and row['config'] == SMALL.to_json() and row['cell'] == cell.name
    assert {tuple(p['setting']) for p in row['points']} <= set(signal_learners.SETTINGS)
    assert {np.shape(p['accuracies']) for p in row['points']} == {(2, 12)} and np.shape(row['points'][0]['tuning_accuracies']) == (5, 12)
    assert heard == sorted(heard) and heard[0] >= 0 and heard[-1] < 1
    assert searches.counts([row])['shared', (4, 5)].most == row['points'][-1]['n']
    assert cell.name == 'dynamic_signal-shared-4x5'


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (('--dataset=dynamic',), 'generated tasks: dynamic_signal, static_signal, norm_comparison, shared_rank'),
        (('--seeds=1',), 'seeds must be a whole number of at least 2, got 1'),
        (('--arms=conv,dens',), "unknown network 'dens': did you mean 'dense'? known: conv, tiled, low_rank, local, dense"),
        (('--sigma=0.1',), 'digits has no use for --sigma'),
        (('--dataset=shared_rank', '--quick'), 'shared_rank has no use for --quick'),
        (('--dataset=norm_comparison', '--raw_dir=.'), 'norm_comparison has no use for --raw_dir'),
        (('--dataset=norm_comparison/digits',), 'digits has 1 channel, red and green are to be compared'),
        (('--dataset=dynamic_signal', '--most=2000000'), 'most must be at most 131,072'),
        (('--dataset=dynamic_signal', '--most=100'), 'most must be a whole number of at least 128'),
        (('--dataset=dynamic_signal', '--sigma=0'), 'sigma must be above 0'),
        (('--dataset=shared_rank', '--sigma=-1'), 'sigma must be from 0 to 100'),
        (('--dataset=static_signal', '--target=1'), 'target must be between 0.5 and 1'),
        (('--workers=0',), 'workers must be'),
    ],
)
def test_bad_flags_are_one_line_and_leave_nothing(tmp_path, flags, message):
    command = [sys.executable, '-m', 'experiments.sample_efficiency', f'--workdir={tmp_path / "w"}', *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count('\n') == 1
    assert not (tmp_path / 'w').exists()


def test_the_command_searches_writes_and_resumes(tmp_path):
    patch = 'studies.QUICK_SIGNAL_LINES = {"patches": ((2, 3),), "dimension": ((2, 3),)}'
    small = f'from experiments import studies, sample_efficiency; {patch}; sample_efficiency.main()'
    command = [sys.executable, '-c', small, '--dataset=dynamic_signal', '--quick', '--most=128', '--seeds=2', f'--workdir={tmp_path}']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {'needed.csv', 'exponents.csv', 'results.jsonl', 'figures'} <= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / 'figures' / 'examples_needed.svg').read_text().startswith('<svg')
    rows = (tmp_path / 'results.jsonl').read_bytes()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and again.stdout == done.stdout and (tmp_path / 'results.jsonl').read_bytes() == rows
    other = subprocess.run([*command, '--sigma=0.3'], capture_output=True, text=True)
    assert other.returncode == 2 and 'sigma was 0.2, now 0.3' in other.stderr


def test_a_search_that_fails_is_a_row_and_the_others_go_on(monkeypatch, capsys):
    monkeypatch.setattr(signal_learners.Learning, 'evaluated', lambda *args: 1 / 0)
    row = jobs.done('sample_efficiency', jobs.Cell(SMALL), None, lambda share: None)
    assert row['status'] == 'failed' and row['error'] == 'ZeroDivisionError: division by zero' and searches.counts([row]) == {}


def test_no_two_trainings_share_a_seed():
    learnings = [signal_learners.Learning('dynamic_signal', m, k, 8, 0.2) for m in signal_learners.MODELS for k in (8, 16)]
    names = [searches.Search(learning, 0.9, 2, 256).name for learning in learnings]
    seeds = [searches._seed(name, what, n, i) for name in names for what in ('score', 'tune') for n in (64, 128) for i in range(20)]
    assert len(set(seeds)) == len(seeds) and max(seeds) < 2**32


def test_bars_of_open_intervals_reach_the_end_of_the_axis_and_bounds_are_triangles():
    marks = {
        'shared': [Mark(8, 100, 80, 125), Mark(16, 200, 150, math.inf)],
        'dense': [Mark(8, 4, 0, 4), Mark(16, math.inf, 5000, math.inf)],
    }
    figure = examples_needed('title', 'subtitle', {'patches': marks, 'dimension': {'shared': [Mark(8, 100, 80, 20_000)]}})
    axes = figure.axes[0]
    assert axes.get_ylim() == figure.axes[1].get_ylim() and axes.get_ylim()[1] > 20_000
    bars = [line.get_ydata() for line in axes.lines if list(line.get_xdata()) == [16, 16]]
    assert [list(bar) for bar in bars] == [[150, axes.get_ylim()[1]]]
    drawn = {(line.get_marker(), tuple(line.get_ydata())) for line in axes.lines if len(line.get_xdata()) == 1}
    assert ('^', (5000,)) in drawn and ('v', (4,)) in drawn


def test_counts_and_ratios_are_shown_with_their_bounds():
    exact, unreached = count(1000), count(1000, most=500)
    assert re.fullmatch(r'1,000 \(\d+ to 1,\d+\)', searches.shown(exact)) and searches.shown(None) == '–'
    assert searches.shown(unreached).startswith('more than ')
    assert searches.shown(Needed(4, 0.0, 5.0, 4, 64, 10, np.full(300, 4.0))) == 'at most 4'
    assert searches.shown(Needed(4, 3.0, math.inf, 2, 64, 10, np.full(300, 4.0))) == '4 (3 to open)'
    assert re.fullmatch(r'10\.0 \(\d\.\d to 1\d\.\d\)', searches.shown_ratio(exact, count(100)))
    assert searches.shown_ratio(exact, unreached) == searches.shown_ratio(None, exact) == '–'
