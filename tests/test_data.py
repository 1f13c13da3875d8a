"""The embedded digits, the cuts, the names, the cache and the command: everything that needs no TFDS set."""

import json
import logging
import pathlib
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from cnn_research import data
from cnn_research.data import __main__ as command
from cnn_research.data import cache, digits, network
from cnn_research.data.dataset import Split, cut_validation
from cnn_research.data.pins import ORIGINALS
from cnn_research.errors import InputError


def arrays(dataset):
    """(images, labels) of the three splits."""
    return [(getattr(dataset, f'{s}_images'), getattr(dataset, f'{s}_labels')) for s in ('train', 'validation', 'test')]


def test_import_is_quick_and_needs_neither_tfds_nor_jax():
    code = 'import sys, cnn_research.data; print({"tensorflow_datasets", "jax", "sklearn"} & set(sys.modules))'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout == 'set()\n'


def test_digits_are_the_same_for_ever():
    dataset = data.load('digits')
    assert [labels.shape for _, labels in arrays(dataset)] == [(1237,), (200,), (360,)]
    assert all(images.shape == (len(labels), 8, 8, 1) for images, labels in arrays(dataset))
    assert all((images.dtype, labels.dtype) == (np.uint8, np.int32) for images, labels in arrays(dataset))
    assert dataset.class_names == tuple('0123456789')
    assert dataset.sha256() == 'f456dec3023c0e3b20de55a5a644de2735e4a2b677f58d7854a0ef32056bbb4b'


def test_digits_are_those_of_scikit_learn_each_used_once():
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    expected = sorted((*np.rint(image * 255 / 16).astype(int), label) for image, label in zip(pixels, labels, strict=True))
    loaded = [(*image.ravel(), label) for split in arrays(data.load('digits')) for image, label in zip(*split, strict=True)]
    assert sorted(loaded) == expected
    assert max(max(row[:-1]) for row in loaded) == 255


def test_digits_are_stratified():
    whole = np.bincount(np.concatenate([labels for _, labels in arrays(data.load('digits'))]))
    for _, labels in arrays(data.load('digits')):
        assert np.all(np.abs(np.bincount(labels) - whole * len(labels) / whole.sum()) < 1)


@pytest.mark.parametrize('count', [0, 1, 7, 30])
def test_class_shares_sum_to_the_count(count):
    shares = digits.class_shares(np.array([3, 20, 7]), count)
    assert shares.sum() == count
    assert np.all(np.abs(shares - np.array([3, 20, 7]) * count / 30) < 1)


@pytest.mark.parametrize('total, expected', [(10, 1), (199, 19), (49_999, 4_999), (50_000, 5_000), (60_000, 5_000)])
def test_validation_is_cut_exactly_and_disjointly(total, expected):
    whole = Split(np.zeros((total, 1, 1, 1), np.uint8), np.arange(total, dtype=np.int32))
    train, validation = cut_validation('some', whole)
    assert len(validation.labels) == len(validation.images) == expected
    np.testing.assert_array_equal(np.sort(np.concatenate([train.labels, validation.labels])), whole.labels)
    assert np.all(np.diff(train.labels) > 0) and np.all(np.diff(validation.labels) > 0)


def test_validation_cut_is_the_same_for_ever():
    whole = Split(np.zeros((60, 1, 1, 1), np.uint8), np.arange(60, dtype=np.int32))
    assert cut_validation('some', whole)[1].labels.tolist() == [2, 11, 26, 28, 35, 59]


def test_too_few_images_for_validation():
    with pytest.raises(InputError, match='some has 9 training images'):
        cut_validation('some', Split(np.zeros((9, 1, 1, 1), np.uint8), np.zeros(9, np.int32)))


NO_NAMES = ('', '../mnist', 'mnist/../..', 'a/../../b', 'mnist/..', '/etc', 'a/b/c', 'a\0b', 'mnist:1.0.0\n', 'a b', 'mnist/.', 'x:..')


@pytest.mark.parametrize('name', NO_NAMES, ids=repr)
def test_names_that_are_paths_are_refused(name, tmp_path):
    with pytest.raises(InputError, match='unknown data set'):
        data.load(name, data_dir=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(
        InputError, match='unknown data set .nope.; known: digits, fashion_mnist, mnist, cifar10, edges, red_green, and any'
    ):
        data.load('nope', data_dir=str(tmp_path))


def test_other_sets_are_never_downloaded(tmp_path):
    with pytest.raises(InputError, match='kmnist is not prepared .* run `tfds build kmnist'):
        data.load('kmnist', data_dir=str(tmp_path))
    with pytest.raises(InputError, match='--raw_dir serves fashion_mnist, mnist, cifar10 only'):
        data.load('kmnist', data_dir=str(tmp_path), raw_dir=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_remote_data_directory_is_refused():
    with pytest.raises(InputError, match='no local folder'):
        data.load('mnist', data_dir='gs://tfds-data')


@pytest.mark.parametrize('name', ORIGINALS)
def test_unprepared_set_without_network_fails_soon(name, tmp_path):
    # A proxy that nobody listens at stands for the missing network.
    environment = {'http_proxy': 'http://127.0.0.1:9', 'https_proxy': 'http://127.0.0.1:9', 'no_proxy': ''}
    start = time.monotonic()
    call = [sys.executable, '-m', 'cnn_research.data', name, f'--data_dir={tmp_path}']
    done = subprocess.run(call, capture_output=True, text=True, env=environment, cwd=pathlib.Path(data.__file__).parents[2])
    assert time.monotonic() - start < 2
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.count('\n') == 1
    assert '--raw_dir' in done.stderr and f'python -m cnn_research.data {name}' in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_network_look_takes_no_longer_than_told(monkeypatch):
    over = threading.Event()

    def hang(*args, **kwargs):
        over.wait()
        raise OSError

    monkeypatch.setattr(network.urllib.request, 'getproxies', dict)
    monkeypatch.setattr(network.socket, 'create_connection', hang)
    start = time.monotonic()
    assert not network.answers('https://example.org/file', seconds=0.2)
    assert time.monotonic() - start < 1
    over.set()


@pytest.mark.parametrize('through_proxy', [False, True])
def test_network_look_finds_a_server_or_the_proxy(monkeypatch, through_proxy):
    with socket.create_server(('127.0.0.1', 0)) as server:
        address = f'http://127.0.0.1:{server.getsockname()[1]}'
        monkeypatch.setattr(network.urllib.request, 'getproxies', lambda: {'http': address} if through_proxy else {})
        assert network.answers('http://host.invalid/file' if through_proxy else address)
    assert not network.answers(address)


class TestCache:
    """The cache of a prepared set, which stands here for any folder with a description and records."""

    @pytest.fixture
    def prepared(self, tmp_path):
        folder = tmp_path / 'some' / '1.0.0'
        folder.mkdir(parents=True)
        (folder / 'dataset_info.json').write_text('{}')
        return folder

    def fetch(self, prepared):
        """The cached or built content, and whether it was built."""
        built = []

        def build():
            built.append(True)
            split = Split(np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3), np.array([0, 1], np.int32))
            return {'train': split, 'test': split.take(np.array([1]))}, ('cat', 'dog')

        return cache.fetch(prepared.parents[1], prepared, build), bool(built)

    def cached_file(self, prepared, name):
        return prepared.parents[1] / cache.FOLDER / 'some' / '1.0.0' / name

    def test_second_fetch_reads_what_the_first_built(self, prepared):
        (splits, names), built = self.fetch(prepared)
        (again, names_again), built_again = self.fetch(prepared)
        assert (built, built_again) == (True, False)
        assert names == names_again == ('cat', 'dog')
        for name in ('train', 'test'):
            np.testing.assert_array_equal(splits[name].images, again[name].images)
            np.testing.assert_array_equal(splits[name].labels, again[name].labels)
            assert (again[name].images.dtype, again[name].labels.dtype) == (np.uint8, np.int32)
        assert not list(self.cached_file(prepared, '.').glob('.*'))

    @pytest.mark.parametrize('name', ['train_images.npy', 'test_labels.npy', 'cache.json'])
    @pytest.mark.parametrize('damage', ['flip', 'truncate', 'empty', 'remove', 'folder', 'loop'])
    def test_damage_is_noticed_and_built_again(self, prepared, name, damage, caplog):
        self.fetch(prepared)
        path = self.cached_file(prepared, name)
        content = path.read_bytes()
        flipped = content[:-30] + bytes([content[-30] ^ 1]) + content[-29:]
        path.unlink()
        if damage == 'folder':
            path.mkdir()
        elif damage == 'loop':
            path.symlink_to(path.name)
        elif damage != 'remove':
            path.write_bytes({'flip': flipped, 'truncate': content[:-1], 'empty': b''}[damage])
        with caplog.at_level(logging.WARNING):
            (splits, _), built = self.fetch(prepared)
        assert built
        assert len(caplog.records) == (0 if (name, damage) == ('cache.json', 'remove') else 1)
        np.testing.assert_array_equal(splits['train'].labels, [0, 1])
        assert path.read_bytes() == content
        assert not self.fetch(prepared)[1]

    def test_an_index_of_endless_depth_is_built_again(self, prepared):
        self.fetch(prepared)
        self.cached_file(prepared, cache.INDEX).write_text('[' * 1_000_000)
        assert [self.fetch(prepared)[1] for _ in range(2)] == [True, False]

    def test_another_preparation_makes_it_stale(self, prepared):
        self.fetch(prepared)
        (prepared / 'dataset_info.json').write_text('[]')
        assert self.fetch(prepared)[1]

    def test_pickled_arrays_are_not_loaded(self, prepared):
        self.fetch(prepared)
        path = self.cached_file(prepared, 'train_images.npy')
        np.save(path, np.array([{}], object), allow_pickle=True)
        index_path = self.cached_file(prepared, cache.INDEX)
        index = json.loads(index_path.read_bytes())['index']
        index['splits']['train'][path.name] = cache.hashlib.sha256(path.read_bytes()).hexdigest()
        index_path.write_text(json.dumps({'sha256': cache._seal(index), 'index': index}))
        assert self.fetch(prepared)[1]

    def test_unwritable_directory_is_served_without_cache(self, prepared):
        (prepared.parents[1] / cache.FOLDER).write_text('a file where the folder would be')
        (splits, _), built = self.fetch(prepared)
        assert built and len(splits['train'].labels) == 2


def test_command_prints_a_summary(capsys):
    assert command.main(['digits']) == 0
    out, err = capsys.readouterr()
    assert err == ''
    assert '8 x 8 x 1, 1237 train, 200 validation, 360 test' in out
    assert data.load('digits').sha256()[:16] in out


@pytest.mark.parametrize('argv', [[], ['digits', '--nope'], ['nope/../x'], ['digits', 'mnist']])
def test_command_reports_bad_input_in_one_line(argv, capsys):
    assert command.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == '' and err.startswith('error: ') and err.count('\n') == 1
