"""`sample_efficiency` on images: nested balanced draws, settings chosen on validation data, and what the rows say."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from cnn_research import config, problem, train
from cnn_research.data import load
from experiments import image_samples as samples


@pytest.mark.parametrize('seed', [0, 1])
def test_draws_are_nested_and_balanced(seed):
    labels = np.repeat(np.arange(10), 50)[np.random.default_rng(0).permutation(500)]
    order = problem.nested(labels, seed)
    assert sorted(order) == list(range(500)) and (order != problem.nested(labels, seed + 1)).any()
    for n in (10, 20, 37, 100):
        counts = np.bincount(labels[order[:n]], minlength=10)
        assert counts.max() - counts.min() <= (n % 10 > 0)
    uneven = np.repeat([0, 1, 2], [600, 300, 100])
    for n in (10, 50, 200):
        assert np.abs(np.bincount(uneven[problem.nested(uneven, seed)[:n]], minlength=3) / n - (0.6, 0.3, 0.1)).max() <= 1 / n


def test_a_draw_of_a_problem_is_the_beginning_of_the_nested_order():
    dataset = load('digits')
    c = samples.configuration('digits', 'conv', 30, samples.SETTINGS[0])
    small, large = (
        problem.arrays(problem.make(dataclasses.replace(c, data=config.DataConfig('digits', train_size=n)), dataset), dataset, 3)
        for n in (30, 100)
    )
    assert (small.draw == large.draw).all() and set(small.draw[:30]) < set(large.draw[:100])
    assert (np.bincount(small.train.labels) == 3).all()


def passes(count, size=300, epochs=2):
    c = config.Config(config.ModelConfig(features=(2, 2)), config.DataConfig('digits', train_size=size))
    return dataclasses.replace(c, train=config.TrainConfig(epochs=epochs, passes=count, batch_size=128))


@pytest.mark.parametrize('count', [1, 3])
def test_every_pass_of_an_epoch_is_an_order_of_all_its_images_and_no_two_are_alike(count):
    from cnn_research import engine

    posed = problem.make(passes(count), load('digits'))
    program, setting = posed.program, posed.setting
    assert posed.steps_per_epoch == 2 * count and setting.total_steps == 4 * count
    orders = [np.asarray(engine.epoch_order(program, setting, np.uint32(0), np.int32(epoch))) for epoch in (0, 1)]
    each = [order.reshape(count, program.ordered)[:, :300] for order in orders]
    assert all(sorted(one) == list(range(300)) for order in each for one in order)
    assert len({tuple(one) for order in each for one in order}) == 2 * count
    assert program.ordered == (1237 if count == 1 else 512)


def test_passes_are_what_epochs_would_be_but_for_the_order():
    """One epoch of six passes goes through as many batches as six epochs of one, and through every image as often."""
    dataset = load('digits')
    taken = []
    for count, epochs in ((6, 1), (1, 6)):
        posed = problem.make(passes(count, epochs=epochs), dataset)
        fit = train.fit(posed, problem.arrays(posed, dataset, 0), 0)
        taken.append((int(fit.state.step), len(fit.history), fit.history[-1]['train_loss']))
    assert taken[0][:2] == (12, 1) and taken[1][:2] == (12, 6)
    assert abs(taken[0][2] - np.mean([2.3, taken[1][2]])) < 0.5


def test_networks_differ_in_sharing_alone_and_every_size_gets_its_steps():
    for n in (10, 300, 55_000):
        configs = [samples.configuration('fashion_mnist', network, n, samples.SETTINGS[0]) for network in samples.NETWORKS]
        same = {dataclasses.replace(c, model=c.model.with_sharing('shared')) for c in configs}
        assert len(same) == 1 and len({c.model.sharing for c in configs}) == len(configs)
        t = configs[0].train
        assert t.epochs * t.passes * max(1, n // t.batch_size) >= 400
        assert t.passes == 1 or t.epochs * (t.passes - 1) * max(1, n // t.batch_size) < 400


def test_sizes_end_with_all_images_and_leave_out_what_is_nearly_all():
    assert samples.sizes(1237) == [10, 30, 100, 300, 1237]
    assert samples.sizes(55_000) == [10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 55_000]


def row(arm, rate, decay, accuracy, purpose='tune', seed=1000, status='ok'):
    return {
        'arm': arm, 'learning_rate': rate, 'config': {'train': {'weight_decay': decay}}, 'purpose': purpose, 'status': status, 'seed': seed,
        'validation_accuracy': accuracy, 'test_accuracy': accuracy, 'train_size': int(arm.rpartition('-n')[2]),
    }  # fmt: skip


def test_settings_are_chosen_on_validation_data_and_reused_above_ten_thousand():
    dataset, ns = load('digits'), [100, 10_000, 55_000]
    cells = samples.tuning_cells(dataset, ('conv',), ns)
    assert {(cell.config.data.train_size, cell.seed, cell.purpose) for cell in cells} == {(100, 1000, 'tune'), (10_000, 1000, 'tune')}
    assert len({cell.name for cell in cells}) == 8
    best = {100: samples.SETTINGS[2], 10_000: samples.SETTINGS[1]}
    rows = [row(f'conv-n{n}', *s, 0.5 + 0.3 * (s == best[n])) for n in best for s in samples.SETTINGS]
    main = samples.main_cells(dataset, ('conv',), ns, None, rows)
    chosen = {(c.config.data.train_size, (c.config.train.learning_rate, c.config.train.weight_decay)) for c in main}
    assert chosen == {(100, best[100]), (10_000, best[10_000]), (55_000, best[10_000])}
    assert [sum(c.config.data.train_size == n for c in main) for n in ns] == [5, 5, 3] and {c.purpose for c in main} == {'main'}
    assert len(samples.main_cells(dataset, ('conv',), ns, 7, rows)) == 3 * 7
    assert samples.main_cells(dataset, ('conv',), [100], 5, rows[1:4]) == []  # a setting is missing


def test_tables_say_accuracy_and_images_saved():
    def scores(worse):
        return {n: [1 - 2 * (worse * 10 / n) ** 0.5 + 0.001 * seed for seed in range(5)] for n in (100, 300, 1000, 3000, 10_000)}

    found = {'conv': scores(1), 'dense': scores(4)}
    columns, lines = samples.accuracy_table(found)
    assert columns == ('training images', 'conv', 'dense') and lines[0][:2] == ('100', '37.0 ± 0.2')
    counts = samples.examples_needed(found)
    columns, lines = samples.needed_table(counts)
    ratios = {line[0]: line[-1] for line in lines}
    assert columns == ('accuracy', 'conv', 'dense', 'dense / conv')
    assert 3.4 < float(ratios['75 %'].split()[0]) < 4.6 and ratios['92.5 %'].startswith('above')
    assert '99 %' not in ratios and '50 %' in ratios
    figure = samples.figure('a set', found, counts, 0.1)
    assert len(figure.axes) == 2 and 'n = 5 seeds' in figure.texts[1].get_text()
    rows = [
        row('conv-n100', 0.01, 0.1, 0.5, 'main', 1),
        row('conv-n100', 0.01, 0.1, 0.4, 'main', 0),
        row('dense-n100', 0.01, 0.1, None, 'main', 0, 'diverged'),
    ]
    assert samples.accuracies([*rows, row('conv-n100', 0.01, 0.1, 0.9)]) == {'conv': {100: [0.4, 0.5]}, 'dense': {100: [0.0]}}


def test_the_command_tunes_trains_writes_and_resumes(tmp_path):
    patch = 'image_samples.GRID = (10,); image_samples.sizes = lambda available: [10, 30]; image_samples._LEAST_STEPS = 20'
    small = f'from experiments import image_samples, sample_efficiency; {patch}; sample_efficiency.main()'
    command = [sys.executable, '-c', small, '--seeds=2', '--arms=conv,local', f'--workdir={tmp_path}']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {'accuracy.csv', 'needed.csv', 'results.jsonl', 'figures', 'params'} <= {path.name for path in tmp_path.iterdir()}
    rows = (tmp_path / 'results.jsonl').read_bytes()
    assert rows.count(b'\n') == 2 * 2 * (4 + 2)
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and again.stdout == done.stdout and (tmp_path / 'results.jsonl').read_bytes() == rows


def test_of_many_classes_every_seed_begins_with_others():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(100), 500))[:45_000]
    first = {tuple(sorted(labels[problem.nested(labels, seed)[:10]])) for seed in range(20)}
    assert len(first) == 20


def test_the_clearest_difference_is_in_the_table():
    """One network that reaches a target with the fewest images, and one that never does."""
    found = {'conv': {10: [0.99, 0.98], 30: [0.99, 0.99]}, 'dense': {10: [0.3, 0.31], 30: [0.3, 0.32]}}
    columns, lines = samples.needed_table(samples.examples_needed(found))
    line = dict(zip(columns, lines[0]))
    assert line['conv'] == 'at most 10' and line['dense'].startswith('more than') and line['dense / conv'].startswith('above')
