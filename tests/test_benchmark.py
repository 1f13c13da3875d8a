"""The benchmark: what it asks for, how it counts, and what it says of a peer that is missing or fails. No test looks at a time."""

import functools
import json
import math

import pytest
from commands import exit_status

from cnn_research import config, cost
from experiments import benchmark, comparisons, contenders, peers, roofline, timing, whole
from experiments.timing import Contender, Timing

run = functools.partial(exit_status, benchmark)


def counting(path, threads):
    """A contender that writes down how often it was asked, and how many threads it was given."""

    def work(count):
        with open(path, 'a') as file:
            file.write(f'{threads} {count}\n')

    return work


def missing(threads):
    """A contender whose library is not there."""
    raise ModuleNotFoundError("No module named 'nonsuch'", name='nonsuch')


def failing(threads):
    """A contender that fails when it works."""

    def work(count):
        raise RuntimeError('no kernel\nmore words')

    return work


def test_contenders_are_asked_in_turn_and_failures_are_one_line(tmp_path):
    team = [Contender(name, counting, {'path': str(tmp_path / name)}) for name in ('a', 'b')]
    found = timing.measure([*team, Contender('c', missing, {}), Contender('d', failing, {})], threads=2, rounds=3, seconds=0.01)
    assert list(found) == ['a', 'b', 'c', 'd']
    assert [len(found[name].seconds) for name in found] == [3, 3, 0, 0]
    assert found['c'].error == 'nonsuch is not installed' and found['d'].error == 'RuntimeError: no kernel'
    lines = (tmp_path / 'a').read_text().splitlines()
    assert len(lines) == 6 and {line.split()[0] for line in lines} == {'2'}  # warm-up, calibration, once more, three rounds
    assert len(set(lines[2:])) == 1  # every round does as much


def test_a_ratio_is_taken_round_by_round():
    slower, faster = Timing((2.0, 8.0, 3.0)), Timing((1.0, 2.0, 3.0))
    assert timing.ratio(slower, faster) == (2.0, 1.0, 4.0)
    assert slower.median == 3.0


def test_a_row_knows_the_ratio_and_the_share_of_the_peak(monkeypatch):
    found = {'own': Timing((1.0, 1.0)), 'peer': Timing((4.0, 2.0)), 'absent': Timing(error='torch is not installed')}
    monkeypatch.setattr(timing, 'measure', lambda *args: found)
    own, peer, absent = benchmark.compare(comparisons.Comparison('work', [], macs=5, bytes=2), 1, 2, 0.1, peak=20.0)
    assert own['ratio'] is None and own['of_peak'] == 0.5 and peer['ratio'] == pytest.approx(0.375) and peer['seconds'] == 3.0
    assert absent['seconds'] is None and absent['error'] == 'torch is not installed'
    assert benchmark.shown(peer) == ('work', 'peer', '1', '3e+03', '2e+03', '4e+03', '0.38', '17%')
    assert benchmark.shown(absent)[3:] == ('torch is not installed', '–', '–', '–', '–')


def test_the_work_of_a_step_is_counted_without_the_gradient_that_nobody_needs():
    model = config.ModelConfig((4, 8), hidden=(16,))
    first, *others = (layer.macs for layer in cost.layers(model, (28, 28, 1), 10))
    macs, moved = comparisons._step_work(model)
    assert macs == 128 * (2 * first + 3 * sum(others))
    images, maps, pooled = 28 * 28, 28 * 28 * 4 + 14 * 14 * 8, 14 * 14 * 4 + 7 * 7 * 8
    weights = cost.total(model, (28, 28, 1), 10).weights
    assert moved == 4 * (128 * (2 * images + 3 * (pooled + 16) + 2 * (maps + 16 + 10)) + 8 * weights)


def test_exponents_are_slopes_of_logarithms():
    rows = [{'what': f'side {n}', 'threads': 1, 'seconds': 3e-6 * n**2} for n in (16, 32, 64)]
    rows += [{'what': 'side 128', 'threads': 1, 'seconds': None}]
    ((name, threads, slope),) = benchmark.exponents(rows)
    assert (name, threads) == ('side', 1) and slope == pytest.approx(2)


def test_every_comparison_is_led_by_this_project_and_covers_what_the_table_of_ways_chooses():
    for section, make in comparisons.SECTIONS.items():
        for comparison in make():
            names = [contender.name for contender in comparison.contenders]
            assert len(set(names)) == len(names) and (comparison.macs > 0) == (comparison.bytes > 0) == (section != 'compiling')
            if section == 'lowerings':
                assert names[0].endswith('(chosen)') and len(names) > 1


@pytest.mark.slow
def test_steps_and_compilations_run():
    """Each in a process of its own, for they change what jax keeps."""
    makers = (contenders.engine_step, peers.flax_step, contenders.engine_compilation, contenders.kept_compilation, peers.flax_compilation)
    fields = {'model': config.ModelConfig((2, 3), hidden=(4,)), 'batch_size': 8}
    found = timing.measure([Contender(make.__name__, make, fields) for make in makers], threads=1, rounds=1, seconds=0.01)
    assert {name: timing_.error for name, timing_ in found.items()} == dict.fromkeys(make.__name__ for make in makers)


@pytest.mark.slow
def test_seeds_in_one_program_run():
    contenders.engine_step(config.ModelConfig((2, 3), hidden=(4,)), batch_size=8, threads=1, seeds=2)(2)


@pytest.mark.slow
def test_layers_run():
    fields = comparisons._layer(side=6, images=2, channels=3, features=4)
    contenders.own_layer('tiled:2x2', threads=1, **fields)(2)
    peers.linen_local_layer(threads=1, **fields)(1)


@pytest.mark.parametrize('kind', ['conv2d', 'local'])
@pytest.mark.parametrize('kernel', [3, 4])
def test_peers_in_pytorch_run_where_it_is_installed(kind, kernel):
    pytest.importorskip('torch')
    peers.torch_layer(kind, threads=1, **comparisons._layer(side=6, kernel=kernel, images=2, channels=3, features=4))(1)


@pytest.mark.slow
def test_the_command_writes_what_it_measured(tmp_path, monkeypatch, capsys):
    fields = comparisons._layer(side=6, images=2, channels=2, features=3)
    pair = [Contender(name, contenders.own_layer, {'scheme': name, **fields}) for name in ('shared', 'local')]
    monkeypatch.setitem(benchmark.SECTIONS, 'layers', lambda: [comparisons.Comparison('small', pair, 1000, 100)])
    assert run('--sections=layers', '--quick', f'--workdir={tmp_path}/w') == 0
    report = json.loads((tmp_path / 'w' / 'benchmark.json').read_text())
    assert [row['contender'] for row in report['rows']['layers']] == ['shared', 'local'] and report['peak']['1'] > 1e9
    assert all(math.isfinite(row['seconds']) and row['error'] is None for row in report['rows']['layers'])
    assert (tmp_path / 'w' / 'roofline.svg').read_text().startswith('<svg ')
    assert 'GFLOP/s in matrix products' in capsys.readouterr().out


@pytest.mark.slow
def test_whole_commands_are_run_and_their_first_step_is_seen(tmp_path):
    args = ('--arms=conv_gmp', '--seeds=1', '--workers=1', '--epochs=2', '--train_size=64')
    done = whole.ran('experiments.weight_sharing', *args, folder=str(tmp_path), cache=str(tmp_path), workdir=str(tmp_path / 'runs'))
    assert 0 < done.first_step < done.seconds and 10**7 < done.memory < 10**10
    assert (tmp_path / 'runs' / 'results.jsonl').exists()
    with pytest.raises(RuntimeError, match=r"weight_sharing ended with 2: .*unknown arm of weight_sharing 'nonsuch'"):
        whole.ran('experiments.weight_sharing', '--arms=nonsuch', folder=str(tmp_path), cache=str(tmp_path), workdir=None)


def test_a_command_that_fails_is_a_row(monkeypatch):
    def ran(module, *args, folder, cache, workdir):
        if '--seeds=2' in args:
            raise RuntimeError('it ended with 1: no memory')
        return whole.Ran(4.0, None if '--help' in args else 2.0, 10**8)

    monkeypatch.setattr(whole, 'ran', ran)
    rows = whole.commands(quick=False)
    assert [row['seconds'] for row in rows] == [4.0, 2.0, 2.0, 4.0, None] + [4.0] * 6
    assert [row['ratio'] for row in rows] == [None, None, 1.0, None, None] + [None, 1.0] * 3
    assert whole.shown(rows[4])[1:] == ('kept', 'it ended with 1: no memory', '–', '–')
    assert whole.shown(rows[2])[2:] == ('2', '1.00', '100 MB')


def test_the_roof_is_drawn_over_own_rows_with_bytes():
    row = {'what': 'work', 'own': True, 'threads': 1, 'macs': 500, 'bytes': 100, 'seconds': 1e-6}
    others = [{**row, 'own': False}, {**row, 'threads': 2}, {**row, 'bytes': 0}, {**row, 'seconds': None}]
    points = roofline.points([row, *others], threads=1)
    assert points == [('work', 10.0, pytest.approx(1e9))]
    axes = roofline.roofline(points, peak=8e9, bandwidth=1e9, machine='a machine').axes[0]
    roof = axes.lines[0].get_xydata()
    low = roof[0][0]
    assert roof.tolist() == [[low, pytest.approx(low)], [8.0, 8.0], [roof[2][0], 8.0]]
    assert axes.collections[0].get_offsets().tolist() == [[10.0, pytest.approx(1.0)]]


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['--sections=layer'], ['section', 'layers', 'steps', 'commands']),
        (['--threads=0'], ['threads', '0']),
        (['--threads=1,x'], ['threads', '1,x']),
        (['--threads=100000'], ['threads', 'cores']),
        (['--slow'], ['slow', '--help']),
        (['--sections=layers', '--workdir=/proc/none'], ['/proc/none']),
    ],
)
def test_bad_input_is_one_line_and_status_2(args, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*args) == 2
    err = capsys.readouterr().err
    assert err.count('\n') == 1 and all(word in err for word in words), err
    assert not list(tmp_path.iterdir())
