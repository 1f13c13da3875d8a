"""The real originals, where they are: in the folder that CNN_RESEARCH_RAW names, or where Debian puts them."""

import gzip
import hashlib
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from cnn_research import data
from cnn_research.data import originals
from cnn_research.data.pins import ORIGINALS

PLACES = (os.environ.get('CNN_RESEARCH_RAW'), '/usr/share/datasets')

pytestmark = pytest.mark.data


def raw_of(name):
    """The first place that has original files of a set, None where no place has."""
    folders = ORIGINALS[name].folders
    places = (place for place in PLACES if place and any((pathlib.Path(place) / folder).is_dir() for folder in folders))
    return next(places, None)


def needs(name):
    """Skips where the original files of a set are not at hand."""
    debian = '`apt-get install dataset-fashion-mnist`, or ' if name == 'fashion_mnist' else ''
    how = f'no original files of {name}: {debian}set CNN_RESEARCH_RAW to a folder with {ORIGINALS[name].folders[0]}'
    return pytest.mark.skipif(raw_of(name) is None, reason=how)


@pytest.mark.parametrize('name', [pytest.param(name, marks=needs(name)) for name in ORIGINALS])
def test_original_files_have_the_pinned_content(name):
    originals.verify(ORIGINALS[name], raw_of(name))


@needs('fashion_mnist')
def test_fashion_mnist_from_files_through_tfds_to_arrays(tmp_path):
    raw = raw_of('fashion_mnist')
    dataset = data.load('fashion_mnist', data_dir=str(tmp_path), raw_dir=raw)
    assert [len(dataset.train_labels), len(dataset.validation_labels), len(dataset.test_labels)] == [
        55_000,
        5_000,
        10_000,
    ]
    assert dataset.sha256() == '26a0980b1a5ba53131fea55a2291839659af65a1026de02f7b258f2988beb31e'
    assert data.load('fashion_mnist', data_dir=str(tmp_path)).sha256() == dataset.sha256()  # from the cache

    images = next(pathlib.Path(raw).glob('fashion[-_]mnist/t10k-images-idx3-ubyte.gz'))
    with gzip.open(images) as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    in_records = pixels[originals.record_order('test', 10_000)]
    np.testing.assert_array_equal(dataset.test_images, in_records)

    code = f"""
import hashlib, sys, tensorflow_datasets as tfds
source = tfds.data_source('fashion_mnist', split='test', data_dir={str(tmp_path)!r})
content = hashlib.sha256(b''.join(example['image'].tobytes() for example in source)).hexdigest()
print(len(source), 'tensorflow' in sys.modules, content)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == f'10000 False {hashlib.sha256(in_records.tobytes()).hexdigest()}\n'
