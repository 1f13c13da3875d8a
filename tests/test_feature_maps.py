"""Filters that slide over images: their names, one step by hand, the pictures, and an edge that is found anywhere."""

import functools
import io
import itertools

import numpy as np
import pytest
from commands import exit_status
from hypothesis import given, settings
from PIL import Image
from test_sharing import geometries

from cnn_research import errors, filters, ops, sweep, trainings
from cnn_research.config import Config, DataConfig, ModelConfig, TrainConfig
from cnn_research.data import load
from cnn_research.geometry import Geometry
from cnn_research.ledger import Ledger
from cnn_research.report import sliding
from experiments import feature_maps

run = functools.partial(exit_status, feature_maps)


def test_filters_have_names_or_are_typed():
    np.testing.assert_array_equal(filters.parse('vertical'), [[1, 0, -1]] * 3)
    np.testing.assert_array_equal(filters.parse(' 1,2.5 ; -3,4e1'), [[1, 2.5], [-3, 40]])
    np.testing.assert_array_equal(filters.parse('1,2,3'), [[1, 2, 3]])
    assert filters.parse('blur').sum() == pytest.approx(1) and filters.parse('laplacian').sum() == 0
    for name in filters.NAMED:
        assert filters.parse(name).shape == (3, 3) and filters.parse(name).dtype == np.float32
    np.testing.assert_array_equal(filters.parse('sobel_horizontal'), filters.parse('sobel_vertical').T)


@pytest.mark.parametrize(('text', 'words'), [
    ('sobel', 'known: vertical'), ('', 'known: vertical'), ('1,x', 'numbers with commas'), ('1,2;3', 'equally long'),
    (','.join(['1'] * 32), 'at most 31'), ('1,nan', 'finite'), ('1,inf', 'finite'), ('1e39,0', 'at most 1,000,000'),
])  # fmt: skip
def test_other_filters_are_refused(text, words):
    with pytest.raises(errors.InputError, match=words):
        filters.parse(text)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(geometries())
def test_the_step_by_hand_is_the_number_in_the_map_at_every_position(g):
    rng = np.random.default_rng(0)
    image, kernel = rng.normal(size=g.image).astype(np.float32), rng.normal(size=g.kernel_size).astype(np.float32)
    response = np.asarray(ops.shared(image[None, ..., None], kernel[..., None, None], g.strides, g.padding, g.dilation))[0, ..., 0]
    assert response.shape == g.positions
    for at in np.ndindex(*g.positions):
        assert np.sum(sliding.seen(image, g, at) * kernel) == pytest.approx(response[at], abs=1e-4)


def test_a_thin_line_is_not_lost_when_a_map_is_made_smaller():
    response = np.zeros((50, 1001), np.float32)
    response[:, 333], response[49, 1000] = -2, 1
    small = sliding.strongest_of_blocks(response)
    assert small.shape == (17, 334) and np.all(small[:, 111] == -2) and small[16, 333] == 1 and np.count_nonzero(small) == 18
    np.testing.assert_array_equal(sliding.strongest_of_blocks(response[:, :480]), response[:, :480])


def test_a_sample_is_drawn_and_animated(tmp_path, capsys):
    assert run('--filter=sobel_vertical', '--sample=3', '--stride=2', '--padding=VALID', f'--workdir={tmp_path}/w') == 0
    assert 'a map of 3 x 3 from' in capsys.readouterr().out
    with Image.open(tmp_path / 'w' / 'feature_map.png') as figure:
        assert figure.width > 1000
    with Image.open(tmp_path / 'w' / 'sliding.gif') as gif:
        assert gif.n_frames == 9  # a frame per position


def test_an_edge_answers_where_it_stands(tmp_path, capsys):
    edge = np.zeros((40, 60), np.uint8)
    edge[:, :30] = 255
    Image.fromarray(edge).save(tmp_path / 'edge.png')
    assert run(f'--image={tmp_path}/edge.png', '--padding=VALID', f'--workdir={tmp_path}/w') == 0
    out = capsys.readouterr().out
    assert 'a map of 38 x 58 from 0 to 3' in out and 'column 28: the sum of 9 products is 3' in out
    with Image.open(tmp_path / 'w' / 'sliding.gif') as gif:
        assert 60 < gif.n_frames <= sliding.FRAMES


def test_the_step_that_is_shown_sees_no_padding_where_that_can_be():
    response = np.zeros((4, 4), np.float32)
    response[0, 0], response[1, 2], response[2, 2] = 9, -5, 4
    assert feature_maps.strongest(response, Geometry((4, 4), (3, 3))) == (1, 2)
    assert feature_maps.strongest(response, Geometry((4, 4), (3, 3), padding='CIRCULAR')) == (1, 2)
    assert feature_maps.strongest(response[:2, :2], Geometry((2, 2), (2, 2))) == (0, 0)


@pytest.mark.parametrize('size', [(1, 1), (8, 9), (9, 9), (720, 1280), (1, 500), (3000, 2)])
def test_the_window_stops_row_by_row_until_the_last_position(size):
    stops = sliding._stops(*size)
    places = [(row, column) for row, column, _ in stops]
    assert places == sorted(set(places)) and places[-1] == (size[0] - 1, size[1] - 1) and len(places) <= sliding.FRAMES
    assert len(places) == size[0] * size[1] or len(places) > sliding.FRAMES / 2
    bands = sorted({(first, row) for row, _, first in stops})
    assert bands[0][0] == 0 and all(after[0] == before[1] + 1 for before, after in itertools.pairwise(bands))


def test_frames_show_the_window_and_as_much_of_the_map():
    image, kernel = np.random.default_rng(0).random((6, 5)).astype(np.float32), np.ones((3, 3), np.float32)
    g = Geometry((6, 5), (3, 3), padding='VALID')
    response = np.asarray(ops.shared(image[None, ..., None], kernel[..., None, None], padding='VALID'))[0, ..., 0]
    data = sliding.animation(image, response, g, 1.0)
    with Image.open(io.BytesIO(data)) as gif:
        assert gif.n_frames == 12 and gif.info['loop'] == 0
        sizes = set()
        for i in range(12):
            gif.seek(i)
            sizes.add(gif.size)
    assert len(sizes) == 1


def finished(book, name, c):
    """Record a cell of a network on digits that was hardly trained."""
    with book.claim(f'{name}-seed0'):
        book.record(*trainings.run_cell('e', sweep.Cell(name, 0, c, 1), load('digits')))


@pytest.mark.slow
def test_what_a_network_learned_is_drawn_on_any_image_of_its_channels(tmp_path, capsys):
    book = Ledger(tmp_path / 'run')
    book.create({})
    placed = DataConfig('digits', 64, (12, 12), 'left')
    for scheme in ('shared', 'local'):
        finished(book, scheme, Config(ModelConfig((2,), (3,), (1,), (1,), (scheme,), head='gmp'), placed, TrainConfig(1, 16)))
    finished(book, 'mlp', Config(ModelConfig((), (), (), (), (), hidden=(4,)), DataConfig('digits', 64), TrainConfig(1, 16)))
    Image.fromarray(np.zeros((400, 600, 3), np.uint8)).save(tmp_path / 'photo.png')
    for args in (('shared',), ('local',), ('shared', f'--image={tmp_path}/photo.png')):
        assert run(f'--run={tmp_path}/run', f'--cell={args[0]}-seed0', *args[1:], f'--workdir={tmp_path}/w') == 0
        with Image.open(tmp_path / 'w' / 'filters.png') as figure:
            assert figure.width > 1000
    for args, words in (
        (('local', f'--image={tmp_path}/photo.png'), 'tied to the size of its images'), (('mlp',), 'has no filters'),
    ):  # fmt: skip
        capsys.readouterr()
        assert run(f'--run={tmp_path}/run', f'--cell={args[0]}-seed0', *args[1:], f'--workdir={tmp_path}/v') == 2
        assert words in capsys.readouterr().err and not (tmp_path / 'v').exists()


@pytest.mark.slow
def test_a_tall_picture_and_a_large_filter_are_drawn(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (4000, 20), np.uint8)).save(tmp_path / 'tall.png')
    many = ';'.join([','.join(['1'] * 15)] * 15)
    assert run(f'--image={tmp_path}/tall.png', f'--filter={many}', f'--workdir={tmp_path}/w') == 0
    with Image.open(tmp_path / 'w' / 'feature_map.png') as figure:
        assert figure.height < 3000


@pytest.mark.slow
def test_a_filter_that_learned_an_edge_at_one_place_finds_it_anywhere_and_a_dense_unit_does_not(tmp_path, capsys):
    assert run('--compare', '--seeds=2', f'--workdir={tmp_path}/w') == 0
    assert 'learned at column 5, 2 seeds' in capsys.readouterr().out
    assert (tmp_path / 'w' / 'anywhere.svg').read_text().startswith('<svg ')
    by_filter, by_unit = feature_maps.accuracies(0).values()
    assert by_filter.min() > 0.75 and by_unit[feature_maps.LEARNED] > 0.9
    far = [i for i, column in enumerate(feature_maps.COLUMNS) if abs(column - feature_maps.COLUMNS[feature_maps.LEARNED]) >= 6]
    assert by_unit[far].max() < 0.6


@pytest.mark.parametrize(('args', 'words'), [
    (['--filter=edge'], ['edge', 'vertical', 'sobel_vertical']),
    (['--image=/none/here.png'], ['/none/here.png', 'cannot read']),
    (['--sample=360'], ['360', '359']),
    (['--padding=WRAP'], ['WRAP', 'SAME']),
    (['--stride=0'], ['stride', '0']),
    (['--filter=1,2;3'], ['equally long']),
    (['--run=/none'], ['--cell']),
    (['--run=/none', '--compare'], ['compare', 'run']),
    (['--compare', '--stride=2'], ['stride', '--compare']),
    (['--run=/none', '--cell=a', '--filter=blur'], ['filter', '--run']),
    (['--seeds=3'], ['seeds', '--compare']),
    (['--run=/none', '--cell=a'], ['/none']),
    (['--compare', '--seeds=0'], ['seeds', '0']),
    (['--workdir=/proc/none'], ['/proc/none']),
    (['--filter=' + ';'.join(['1'] * 9)], ['kernel', '8']),
])  # fmt: skip
def test_bad_input_is_one_line_and_status_2(args, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*args) == 2
    err = capsys.readouterr().err
    assert err.count('\n') == 1 and all(word in err for word in words), err
    assert not list(tmp_path.iterdir())
