"""Small sets prepared by TFDS: from files and from a server, by two processes, interrupted, damaged and foreign."""

import dataclasses
import functools
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time

import numpy as np
import pytest
from test_data_formats import TEST_COUNT, TRAIN_COUNT, small_set

from cnn_research import data
from cnn_research.data import cache, network, originals, sources
from cnn_research.data.pins import ORIGINALS
from cnn_research.errors import InputError

NAMES = tuple(ORIGINALS)
ROOT = pathlib.Path(data.__file__).parents[2]
# Replaces the known sets by the small ones of a JSON file, then runs the code.
SUBSTITUTE = """
import json, pathlib, sys
from cnn_research.data.pins import ORIGINALS, Original
import dataclasses
for name, files in json.loads(pathlib.Path(sys.argv[1]).read_text()).items():
    ORIGINALS[name] = dataclasses.replace(ORIGINALS[name], files=tuple(Original(*file) for file in files))
from cnn_research import data
"""


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """A folder with small original files of all sets, which take the place of the known ones."""
    for name in NAMES:
        monkeypatch.setitem(ORIGINALS, name, small_set(name, tmp_path / 'raw'))
    pins = {name: [dataclasses.astuple(file) for file in ORIGINALS[name].files] for name in NAMES}
    (tmp_path / 'raw' / 'pins.json').write_text(json.dumps(pins))
    return tmp_path / 'raw'


def start(code, raw, *arguments):
    """Starts a process that runs `code` with the small sets."""
    call = [sys.executable, '-c', SUBSTITUTE + code, str(raw / 'pins.json'), *map(str, arguments)]
    return subprocess.Popen(call, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize('name', NAMES)
def test_round_trip_equals_the_original_files(name, raw, tmp_path, capfd):
    dataset = data.load(name, data_dir=str(tmp_path / 'data'), raw_dir=str(raw))
    read = originals.reader(ORIGINALS[name], str(raw))
    test = originals.decode(ORIGINALS[name], 'test', read)
    order = originals.record_order('test', TEST_COUNT)
    np.testing.assert_array_equal(dataset.test_images, test.images[order])
    np.testing.assert_array_equal(dataset.test_labels, test.labels[order])

    train = originals.decode(ORIGINALS[name], 'train', read)
    assert (len(dataset.train_labels), len(dataset.validation_labels)) == (TRAIN_COUNT * 9 // 10, TRAIN_COUNT // 10)
    loaded = [*zip(dataset.train_images, dataset.train_labels, strict=True)]
    loaded += [*zip(dataset.validation_images, dataset.validation_labels, strict=True)]
    expected = zip(train.images, train.labels, strict=True)
    assert sorted((i.tobytes(), int(n)) for i, n in loaded) == sorted((i.tobytes(), int(n)) for i, n in expected)
    assert dataset.class_names[0] == {'fashion_mnist': 'T-shirt/top', 'mnist': '0', 'cifar10': 'airplane'}[name]
    assert capfd.readouterr() == ('', '')  # nothing of TFDS's notes


def test_official_name_opens_the_prepared_set_without_tensorflow(raw, tmp_path):
    code = f"""
import sys, hashlib, tensorflow_datasets as tfds
for name in {NAMES}:
    source = tfds.data_source(name, split='test', data_dir={str(tmp_path)!r})
    info = tfds.builder(name, data_dir={str(tmp_path)!r}).info
    content = hashlib.sha256(b''.join(example['image'].tobytes() for example in source)).hexdigest()
    print(name, len(source), content, [int(example['label']) for example in source], sorted(source[0]), info.version)
    print(info.features['label'].names)
print('tensorflow' in sys.modules)
"""
    expected = ''
    for name in NAMES:
        dataset = data.load(name, data_dir=str(tmp_path), raw_dir=str(raw))
        content = hashlib.sha256(dataset.test_images.tobytes()).hexdigest()
        keys = ['id', 'image', 'label'] if name == 'cifar10' else ['image', 'label']
        labels, version = dataset.test_labels.tolist(), ORIGINALS[name].version
        expected += f'{name} {TEST_COUNT} {content} {labels} {keys} {version}\n{list(dataset.class_names)}\n'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == expected + 'False\n'


def test_our_builders_agree_with_the_official_ones(tmp_path):
    import tensorflow_datasets as tfds

    from cnn_research.data import builders

    for name in NAMES:
        official, ours = tfds.builder(name, data_dir=tmp_path), builders.BUILDERS[name](raw_dir=None, data_dir=tmp_path)
        assert str(official.version) == str(ours.version) == ORIGINALS[name].version
        assert repr(official.info.features) == repr(ours.info.features)
        if name != 'cifar10':  # whose official names are in the archive
            assert ORIGINALS[name].class_names == tuple(official.info.features['label'].names)
        assert ORIGINALS[name].url == (official._cifar_info.url if name == 'cifar10' else official.URL)
        assert official.data_dir == ours.data_dir == str(tmp_path / name / ORIGINALS[name].version)


def test_prepared_set_needs_no_files_but_those_given_are_checked(raw, tmp_path):
    first = data.load('mnist', data_dir=str(tmp_path), raw_dir=str(raw))
    assert data.load('mnist', data_dir=str(tmp_path)).sha256() == first.sha256()
    (raw / 'mnist' / 't10k-labels-idx1-ubyte.gz').unlink()
    with pytest.raises(InputError, match='original file missing: .*t10k-labels'):
        data.load('mnist', data_dir=str(tmp_path), raw_dir=str(raw))


def test_default_directory_is_that_of_tfds(raw, tmp_path, monkeypatch):
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'chosen'))
    data.load('mnist', raw_dir=str(raw))
    assert (tmp_path / 'chosen' / 'mnist' / '3.0.1' / 'dataset_info.json').is_file()
    monkeypatch.delenv('TFDS_DATA_DIR')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert sources.data_root(None) == tmp_path / 'tensorflow_datasets'


def test_any_other_prepared_set_works_by_name_and_version(raw, tmp_path):
    known = data.load('mnist', data_dir=str(tmp_path), raw_dir=str(raw))
    other = data.load('mnist:3.0.1', data_dir=str(tmp_path))
    assert dataclasses.replace(other, name='mnist').sha256() == known.sha256()


def test_two_processes_at_once_both_end_well(raw, tmp_path):
    code = "print(data.load('cifar10', data_dir=sys.argv[2], raw_dir=sys.argv[3]).sha256())"
    processes = [start(code, raw, tmp_path / 'data', raw) for _ in range(2)]
    results = [(*process.communicate(timeout=60), process.returncode) for process in processes]
    expected = data.load('cifar10', data_dir=str(tmp_path / 'alone'), raw_dir=str(raw)).sha256()
    assert results == [(f'{expected}\n', '', 0)] * 2


def test_killed_preparation_leaves_no_set(raw, tmp_path):
    code = """
import os, signal
from cnn_research.data import builders
example = builders._FromOriginals._example
def kill_at_10(self, identity, picture, label):
    if identity.endswith('10'):
        os.kill(os.getpid(), signal.SIGKILL)
    return example(self, identity, picture, label)
builders._FromOriginals._example = kill_at_10
data.load('mnist', data_dir=sys.argv[2], raw_dir=sys.argv[3])
"""
    process = start(code, raw, tmp_path, raw)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / 'mnist' / '3.0.1').exists()
    assert len(data.load('mnist', data_dir=str(tmp_path), raw_dir=str(raw)).test_labels) == TEST_COUNT


def test_incomplete_folder_is_refused(raw, tmp_path):
    (tmp_path / 'mnist' / '3.0.1').mkdir(parents=True)
    with pytest.raises(InputError, match='mnist/3.0.1 is incomplete .*remove it'):
        data.load('mnist', data_dir=str(tmp_path), raw_dir=str(raw))


def damage_flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize('damage', [damage_flip, lambda path: os.truncate(path, path.stat().st_size // 2), os.remove])
def test_damaged_records_are_noticed(damage, raw, tmp_path):
    data.load('mnist', data_dir=str(tmp_path), raw_dir=str(raw))
    shutil.rmtree(tmp_path / cache.FOLDER)
    folder = tmp_path / 'mnist' / '3.0.1'
    damage(next(folder.glob('*train.array_record*')))
    with pytest.raises(InputError, match=f'{folder}.*remove the folder and prepare'):
        data.load('mnist', data_dir=str(tmp_path))


def test_prepared_data_that_are_not_the_originals_are_noticed(raw, tmp_path, monkeypatch):
    data.load('mnist', data_dir=str(tmp_path), raw_dir=str(raw))
    shutil.rmtree(tmp_path / cache.FOLDER)
    other = dataclasses.replace(ORIGINALS['mnist'], files=ORIGINALS['fashion_mnist'].files)
    monkeypatch.setitem(ORIGINALS, 'mnist', other)
    with pytest.raises(InputError, match='does not hold the original data .*train-images'):
        data.load('mnist', data_dir=str(tmp_path))


def test_a_set_asked_for_by_its_version_is_compared_too(raw, tmp_path, monkeypatch):
    data.load('mnist', data_dir=str(tmp_path), raw_dir=str(raw))
    shutil.rmtree(tmp_path / cache.FOLDER)
    monkeypatch.setitem(ORIGINALS, 'mnist', dataclasses.replace(ORIGINALS['mnist'], files=ORIGINALS['fashion_mnist'].files))
    for name in ('mnist:3.0.1', 'mnist'):
        with pytest.raises(InputError, match='does not hold the original data'):
            data.load(name, data_dir=str(tmp_path))


@pytest.mark.parametrize('old, new', [('Pullover', 'Pulloven'), ('Trouser\nPullover', 'Pullover\nTrouser')])
def test_classes_by_other_names_are_noticed(old, new, raw, tmp_path):
    data.load('fashion_mnist', data_dir=str(tmp_path), raw_dir=str(raw))
    path = tmp_path / 'fashion_mnist' / '3.0.1' / 'label.labels.txt'
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match='names other classes than fashion_mnist has; remove the folder'):
        data.load('fashion_mnist', data_dir=str(tmp_path))


def test_unwritable_data_directory(raw, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='cannot write in .*pass another --data_dir'):
        data.load('mnist', data_dir=str(tmp_path / 'file'), raw_dir=str(raw))


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server for the folder `tmp_path/served`; its address."""
    (tmp_path / 'served').mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / 'served')
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, 'log_message', lambda *args: None)
    monkeypatch.setattr(network.urllib.request, 'getproxies', dict)
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        yield f'http://127.0.0.1:{httpd.server_address[1]}/'
        httpd.shutdown()
        thread.join()


def serve(name, raw, address, served, monkeypatch):
    """Offers the original files of a set as the official site does: single files, or an archive."""
    known = ORIGINALS[name]
    if known.url.endswith('.tar.gz'):
        address += 'archive.tar.gz'
        with tarfile.open(served / 'archive.tar.gz', 'w:gz') as tar:
            tar.add(raw / known.folders[0], 'cifar-10-batches-bin')
    else:
        shutil.copytree(raw / known.folders[0], served, dirs_exist_ok=True)
    monkeypatch.setitem(ORIGINALS, name, dataclasses.replace(known, url=address))


@pytest.mark.parametrize('name', ['fashion_mnist', 'cifar10'])
def test_download_equals_the_original_files(name, raw, tmp_path, server, monkeypatch):
    serve(name, raw, server, tmp_path / 'served', monkeypatch)
    downloaded = data.load(name, data_dir=str(tmp_path / 'data'))
    assert downloaded.sha256() == data.load(name, data_dir=str(tmp_path / 'other'), raw_dir=str(raw)).sha256()


def test_downloads_found_on_disk_are_verified_too(raw, tmp_path, server, monkeypatch):
    serve('mnist', raw, server, tmp_path / 'served', monkeypatch)
    data.load('mnist', data_dir=str(tmp_path / 'data'))
    shutil.rmtree(tmp_path / 'data' / 'mnist')
    cached = next((tmp_path / 'data' / 'downloads').rglob('*t10k-labels*.gz'))
    cached.write_bytes(cached.read_bytes()[:-1] + b'?')
    with pytest.raises(InputError, match='original file .*t10k-labels'):
        data.load('mnist', data_dir=str(tmp_path / 'data'))
    assert not (tmp_path / 'data' / 'mnist' / '3.0.1').exists()


def test_download_that_fails_says_so_soon(raw, tmp_path, server, monkeypatch):
    monkeypatch.setitem(ORIGINALS, 'mnist', dataclasses.replace(ORIGINALS['mnist'], url=server))
    began = time.monotonic()
    with pytest.raises(InputError, match='cannot prepare mnist .*404'):
        data.load('mnist', data_dir=str(tmp_path / 'data'))
    assert time.monotonic() - began < 5
    assert not (tmp_path / 'data' / 'mnist' / '3.0.1').exists()


def test_server_that_never_answers_is_given_up(raw, tmp_path, monkeypatch):
    from cnn_research.data import builders

    monkeypatch.setattr(builders, 'DOWNLOAD_TIMEOUT', 0.1)
    monkeypatch.setattr(network.urllib.request, 'getproxies', dict)
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with socket.create_server(('127.0.0.1', 0), backlog=64) as silent:
        address = f'http://127.0.0.1:{silent.getsockname()[1]}/'
        monkeypatch.setitem(ORIGINALS, 'mnist', dataclasses.replace(ORIGINALS['mnist'], url=address))
        began = time.monotonic()
        with pytest.raises(InputError, match='cannot prepare mnist .*[Tt]imed? ?out'):
            data.load('mnist', data_dir=str(tmp_path / 'data'))
        assert time.monotonic() - began < 5
