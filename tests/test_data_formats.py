"""The file formats of the originals; and small sets of originals, on which the other data tests rest."""

import dataclasses
import gzip
import hashlib
import pathlib

import numpy as np
import pytest

from cnn_research.data import formats
from cnn_research.data.dataset import Split
from cnn_research.data.pins import ORIGINALS, Original, OriginalSet

TRAIN_COUNT, TEST_COUNT = 100, 20  # CIFAR-10's training files hold a fifth each
SHAPES = {'idx': (28, 28, 1), 'cifar': (32, 32, 3)}


def small_split(file_format: str, count: int, seed: int) -> Split:
    """Random images of the format's shape, with labels 0 to 9 in equal numbers."""
    random = np.random.RandomState(seed)
    images = random.randint(256, size=(count, *SHAPES[file_format])).astype(np.uint8)
    return Split(images, random.permutation(np.arange(count, dtype=np.int32) % 10))


def small_set(name: str, raw: pathlib.Path) -> OriginalSet:
    """A set with the names and layout of a known one but few random images; its files are written under `raw`."""
    known = ORIGINALS[name]
    folder = raw / known.folders[0]
    folder.mkdir(parents=True)
    files = []
    for split, count in (('train', TRAIN_COUNT), ('test', TEST_COUNT)):
        originals = known.of(split)
        sizes = [count // len(originals) * formats.CIFAR_ROW] * len(originals)
        seed = sum(f'{name} {split}'.encode())
        contents = formats.FORMATS[known.format].encode(small_split(known.format, count, seed), sizes)
        for original, content in zip(originals, contents, strict=True):
            files.append(Original(original.file, split, len(content), hashlib.sha256(content).hexdigest()))
            (folder / original.file).write_bytes(packed(original.file, content))
    return dataclasses.replace(known, files=tuple(files))


def packed(file: str, content: bytes) -> bytes:
    """The content as it lies on disk: compressed in files that are."""
    return gzip.compress(content) if file.endswith('.gz') else content


@pytest.mark.parametrize('file_format', formats.FORMATS)
def test_encoding_is_the_inverse_of_decoding(file_format):
    split = small_split(file_format, 20, seed=1)
    files = {'idx': 2, 'cifar': 4}[file_format]
    contents = formats.FORMATS[file_format].encode(split, [5 * formats.CIFAR_ROW] * files)
    assert len(contents) == files
    decoded = formats.FORMATS[file_format].decode(contents)
    np.testing.assert_array_equal(decoded.images, split.images)
    np.testing.assert_array_equal(decoded.labels, split.labels)


def test_idx_layout_is_the_published_one():
    images = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3]) + bytes([1, 2, 3, 4, 5, 6])
    labels = bytes([0, 0, 8, 1, 0, 0, 0, 2]) + bytes([7, 9])
    split = formats.decode_idx([images, labels])
    np.testing.assert_array_equal(split.images, np.arange(1, 7).reshape(2, 1, 3, 1))
    np.testing.assert_array_equal(split.labels, [7, 9])
    assert formats.describe_idx(images) == ' of an IDX file of 2 images of 1 x 3'
    assert formats.describe_idx(labels) == ' of an IDX file of 2 labels'
    assert formats.describe_idx(b'something') == ''


def test_cifar_layout_is_the_published_one():
    row = bytes([6]) + bytes([1] * 1024) + bytes([2] * 1024) + bytes([3] * 1023 + [4])
    split = formats.decode_cifar([row])
    assert split.images.shape == (1, 32, 32, 3)
    np.testing.assert_array_equal(split.images[0, 0, 0], [1, 2, 3])
    np.testing.assert_array_equal(split.images[0, 31, 31], [1, 2, 4])
    np.testing.assert_array_equal(split.labels, [6])
