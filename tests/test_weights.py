"""The command `experiments.weights`: what it prints, writes and refuses, and how little it takes."""

import csv
import functools
import pathlib
import subprocess
import sys

import pytest
from commands import exit_status

from cnn_research import networks
from experiments import weights

run = functools.partial(exit_status, weights)


def read(path):
    with open(path) as file:
        return {row[0]: row for row in csv.reader(file)}


MEASURED = """
import pathlib, sys
from experiments import weights
try:
    weights.main(['weights', '--image_size=720x1280', '--channels=3', '--features=32', '--kernel_size=3', '--workdir=' + sys.argv[1]])
finally:  # not getrusage: that remembers what the process was before it became Python
    print(pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0], 'kB')
"""


@pytest.mark.skipif(not pathlib.Path('/proc/self/status').exists(), reason='peak memory is read from /proc, which this system lacks')
def test_720p_is_counted_exactly_in_little_memory(tmp_path):
    done = subprocess.run([sys.executable, '-c', MEASURED, str(tmp_path)], capture_output=True, text=True, check=True)
    for count in ('864', '796,262,400', '81,537,269,760,000', '326 TB'):
        assert count in done.stdout
    assert int(done.stdout.split()[-2]) < 1_000_000
    rows = read(tmp_path / 'weights.csv')
    assert rows['dense'][1:3] == ['2764800', '81537269760000']
    assert (tmp_path / 'weights.svg').read_text().startswith('<svg')


def test_it_needs_no_jax():
    code = 'import sys; from experiments import weights; assert "jax" not in sys.modules and "matplotlib" not in sys.modules'
    subprocess.run([sys.executable, '-c', code], check=True)


def test_one_unit(tmp_path, capsys):
    assert run('--image_size=100', '--channels=1', '--features=1', '--kernel_size=5', f'--workdir={tmp_path}') == 0
    rows = read(tmp_path / 'weights.csv')
    assert rows['shared'][1:3] == ['25', '25'] and rows['dense'][1] == '10000'
    assert '1 map of 5 x 5 filters on 1 channel, images of 100 x 100' in capsys.readouterr().out


@pytest.mark.parametrize('name', networks.NAMED)
def test_whole_networks(name, tmp_path):
    assert run(f'--model={name}', f'--workdir={tmp_path}') == 0
    assert int(read(tmp_path / f'{name}.csv')['all'][2]) > 60_000


@pytest.mark.parametrize('size', [1500, 2048, 3000])
def test_a_filter_too_large_for_the_sides_of_the_figure_has_sides_of_its_own(size, tmp_path):
    assert run(f'--image_size={size + 5}', f'--kernel_size={size}', f'--workdir={tmp_path}') == 0
    assert int(read(tmp_path / 'weights.csv')['shared'][1]) == 3 * size**2
    assert (tmp_path / 'weights.svg').read_text().startswith('<svg')


def test_a_network_at_another_size(tmp_path):
    assert run('--model=lenet5', '--image_size=720x1280', '--channels=3', f'--workdir={tmp_path}') == 0
    assert read(tmp_path / 'lenet5.csv')['stage_0'][1:3] == ['358 x 638 x 6', str(25 * 3 * 6 + 6)]


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['--model=lenet'], ['lenet5', 'd_fc']),
        (['--model=lenet5', '--features=3'], ['features', '--model']),
        (['--image_size=0'], ['image_size', 'HEIGHTxWIDTH']),
        (['--kernel_size=9', '--image_size=8'], ['kernel of 9', '8']),
        (['--channels=0'], ['channels', '0']),
        (['--features=-1'], ['features', '-1']),
        (['--padding=same'], ['same', 'VALID, SAME']),
        (['--depth=3'], ['depth']),
        (['--workdir=/proc/none'], ['/proc/none', '--workdir']),
        (['--workdir='], ['workdir', 'folder']),
        (['--image_size='], ['image_size', 'HEIGHTxWIDTH']),
        (['--kernel_size='], ['kernel_size', 'HEIGHTxWIDTH']),
        (['--padding='], ['padding', 'VALID, SAME']),
        (['--features=' + '9' * 30], ['features', 'at most 1,000,000,000']),
        (['--image_size=２８'], ['image_size', 'HEIGHTxWIDTH']),
    ],
)
def test_bad_input_is_one_line_and_status_2(args, words, tmp_path, capsys):
    assert run(f'--workdir={tmp_path / "new"}', *args) == 2
    err = capsys.readouterr().err
    assert err.count('\n') == 1 and all(word in err for word in words), err
    assert not (tmp_path / 'new').exists()
