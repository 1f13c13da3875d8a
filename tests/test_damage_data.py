"""Random damage to original files, prepared records and cached arrays: it is noticed, or changes nothing.

Every case damages one to three files of a small set, in ways drawn from a seeded generator, and loads the set as everybody does. What comes
back is an InputError or exactly the right arrays. A cache that was damaged is afterwards the one that it was, byte for byte.
"""

import collections
import hashlib
import logging
import os
import random
import shutil
import tarfile

import numpy as np
import pytest
from test_data_formats import small_set

from cnn_research import data
from cnn_research.data import cache, originals
from cnn_research.data.pins import ORIGINALS
from cnn_research.errors import InputError

NAMES = tuple(ORIGINALS)


def flip(rng, path, others):
    """One bit, often near an end, where headers and checksums are."""
    content = bytearray(path.read_bytes())
    first, last = 0, len(content) - 1
    at = rng.choice((rng.randint(first, last), rng.randint(first, min(last, 16)), rng.randint(max(first, last - 16), last)))
    content[at] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def truncate(rng, path, others):
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def insert(rng, path, others):
    content, at = path.read_bytes(), rng.randrange(path.stat().st_size + 1)
    path.write_bytes(content[:at] + rng.randbytes(rng.randint(1, 9)) + content[at:])


def remove(rng, path, others):
    path.unlink()


def empty(rng, path, others):
    path.write_bytes(b'')


def swap(rng, path, others):
    other = rng.choice(others)
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


def folder_instead(rng, path, others):
    path.unlink()
    path.mkdir()
    (path / 'something').write_text('in it')


def link_to_itself(rng, path, others):
    path.unlink()
    path.symlink_to(path.name)


DAMAGES = (flip, flip, flip, truncate, insert, remove, empty, swap, folder_instead, link_to_itself)  # a flip is the hardest to notice


def damage(rng, files):
    """Damages one file, or two or three; what was done, as (way, name) pairs."""
    done = []
    for path in rng.sample(list(files), rng.choice((1, 1, 1, 2, 3))):
        others = [other for other in files if other != path and other.is_file()]
        if others and path.is_file() and path.stat().st_size:  # else an earlier swap has met it
            way = rng.choice(DAMAGES)
            way(rng, path, others)
            done.append((way.__name__, path.name))
    return done


def contents(folder):
    """What is in the files of a folder, by path."""
    return {path: path.read_bytes() for path in sorted(folder.iterdir())}


def restore(before):
    """Puts a folder back to what `contents` found."""
    folder = next(iter(before)).parent
    shutil.rmtree(folder)
    folder.mkdir()
    for path, content in before.items():
        path.write_bytes(content)


@pytest.fixture(scope='module')
def sets(tmp_path_factory):
    """Small sets: the folder of original files, the data directory with all prepared and cached, and the Datasets by name."""
    raw, root = tmp_path_factory.mktemp('raw'), tmp_path_factory.mktemp('data')
    with pytest.MonkeyPatch.context() as patch:
        for name in NAMES:
            patch.setitem(ORIGINALS, name, small_set(name, raw))
        yield raw, root, {name: data.load(name, data_dir=str(root), raw_dir=str(raw)) for name in NAMES}


def numbers(few, many):
    """How many cases, with a seed: some every day, and many that only an endurance run has."""
    return pytest.mark.parametrize(('seed', 'cases'), [(0, few), pytest.param(1, many, marks=pytest.mark.endurance)])


def right(dataset, expected):
    return dataset.sha256() == expected.sha256() and dataset.class_names == expected.class_names


def tally(count, done, *, noticed, correct):
    count['damaged'] += 1
    count['wrong' if not correct else 'noticed' if noticed else 'harmless'] += 1
    if not correct:
        print(f'\nwrong result after {done}')


@pytest.fixture
def conclude(record_property):
    """Say at the end what was found, of many cases, and that none of them gave a wrong result."""

    def say(what, count):
        if count['damaged'] >= 150:
            text = f'{count["noticed"]} noticed, {count["harmless"]} of what nothing reads, {count["wrong"]} wrong results'
            record_property('figure', f'{what} damaged {count["damaged"]} times: {text}')
        assert count['wrong'] == 0
        assert count['noticed'] > count['damaged'] / 2

    return say


@numbers(120, 300)
def test_original_files(sets, seed, cases, conclude):
    raw, root, expected = sets
    before = {name: contents(raw / ORIGINALS[name].folders[0]) for name in NAMES}
    arrays = {name: decoded(name, raw) for name in NAMES}
    rng, count = random.Random(seed), collections.Counter()
    for _ in range(cases):
        name = rng.choice(NAMES)
        done = damage(rng, before[name])
        try:
            dataset = data.load(name, data_dir=str(root), raw_dir=str(raw))
            tally(count, done, noticed=False, correct=right(dataset, expected[name]) and decoded(name, raw) == arrays[name])
        except InputError:
            tally(count, done, noticed=True, correct=True)
        restore(before[name])
    conclude('original files', count)


@numbers(100, 300)
def test_archive(sets, tmp_path, seed, cases, conclude):
    raw, known = sets[0], ORIGINALS['cifar10']
    original, archive = known.files[-1], tmp_path / 'archive.tar.gz'
    content = (raw / known.folders[0] / original.file).read_bytes()
    with tarfile.open(archive, 'w:gz') as tar:
        tar.add(raw / known.folders[0], 'rows')
    before = contents(tmp_path)
    rng, count = random.Random(seed), collections.Counter()
    for _ in range(cases):
        way = rng.choice((flip, flip, truncate, insert, remove, empty, folder_instead, link_to_itself))
        way(rng, archive, [])
        try:
            correct = originals.read_member(archive, f'rows/{original.file}', original) == content
            tally(count, way.__name__, noticed=False, correct=correct)
        except InputError:
            tally(count, way.__name__, noticed=True, correct=True)
        restore(before)
    conclude('archive', count)


def decoded(name, raw):
    """The bytes of all arrays that are read from the original files."""
    read = originals.reader(ORIGINALS[name], str(raw))
    splits = [originals.decode(ORIGINALS[name], split, read) for split in ('train', 'test')]
    return [np.ascontiguousarray(array).tobytes() for split in splits for array in (split.images, split.labels)]


@numbers(40, 150)
def test_prepared_records(sets, seed, cases, conclude):
    _, root, expected = sets
    prepared = {name: contents(root / name / ORIGINALS[name].version) for name in NAMES}
    cached = {name: contents(cache_of(name, root)) for name in NAMES}
    rng, count = random.Random(seed), collections.Counter()
    for _ in range(cases):
        name = rng.choice(NAMES)
        done = damage(rng, prepared[name])
        try:
            tally(count, done, noticed=False, correct=right(data.load(name, data_dir=str(root)), expected[name]))
        except InputError:
            tally(count, done, noticed=True, correct=True)
        restore(prepared[name])
        restore(cached[name])
    conclude('prepared records', count)


def cache_of(name, root):
    return root / cache.FOLDER / name / ORIGINALS[name].version


def index_of_another_set(rng, folder, other):
    shutil.copy(other / cache.INDEX, folder)


def cache_of_another_set(rng, folder, other):
    shutil.copytree(other, folder, dirs_exist_ok=True)


def index_with_another_hash(rng, folder, other):
    """A file that differs, with its hash in the index, whose own hash does not fit."""
    path, index = rng.choice(sorted(folder.glob('*.npy'))), folder / cache.INDEX
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    flip(rng, path, [])
    index.write_text(index.read_text().replace(before, hashlib.sha256(path.read_bytes()).hexdigest()))


def images_swapped(rng, folder, other):
    swap(rng, folder / 'train_images.npy', [folder / 'test_images.npy'])


FORGERIES = (index_of_another_set, cache_of_another_set, index_with_another_hash, images_swapped)


def forge(rng, name, root):
    """Damages a cache with knowledge of it; what was done."""
    way = rng.choice(FORGERIES)
    way(rng, cache_of(name, root), cache_of(rng.choice([other for other in NAMES if other != name]), root))
    return way.__name__


@numbers(40, 250)
def test_cache(sets, seed, cases, caplog, conclude):
    _, root, expected = sets
    before = {name: contents(cache_of(name, root)) for name in NAMES}
    rng, count = random.Random(seed), collections.Counter()
    for _ in range(cases):
        name = rng.choice(NAMES)
        done = damage(rng, before[name]) if rng.random() < 0.75 else forge(rng, name, root)
        is_one = os.path.lexists(cache_of(name, root) / cache.INDEX)  # without its index there is none, and no warning
        warned, dataset = loaded(name, root, caplog)
        noticed = warned or not is_one
        tally(count, done, noticed=noticed, correct=right(dataset, expected[name]))
        assert not noticed or contents(cache_of(name, root)) == before[name], done
        again, dataset = loaded(name, root, caplog)
        assert not again and right(dataset, expected[name]), done
        restore(before[name])
    conclude('cache', count)


def loaded(name, root, caplog):
    """Whether a cache was found damaged on the way to the set, and the set."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        dataset = data.load(name, data_dir=str(root))
    return any('is damaged or stale and is built again' in record.message for record in caplog.records), dataset
