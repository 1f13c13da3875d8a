"""The two file formats of the original sets, decoded and encoded: IDX (the MNISTs) and CIFAR's binary rows."""

import dataclasses
import math
import struct
from collections.abc import Callable, Sequence

import numpy as np

from cnn_research.data.dataset import Split

IDX_IMAGES = 0x803  # unsigned bytes in three dimensions: images, rows, columns
IDX_LABELS = 0x801  # unsigned bytes in one dimension
CIFAR_SHAPE = (3, 32, 32)
CIFAR_ROW = 1 + math.prod(CIFAR_SHAPE)  # bytes: the label, then the red, green and blue planes


@dataclasses.dataclass(frozen=True)
class Format:
    """How the files of one split become examples, and how the examples become the very same bytes again."""

    decode: Callable[[Sequence[bytes]], Split]
    encode: Callable[[Split, Sequence[int]], list[bytes]]  # the second argument: the size of every file in bytes


def decode_idx(contents: Sequence[bytes]) -> Split:
    """An IDX file of images and one of labels as a Split with images [N, H, W, 1]."""
    images, labels = contents
    _, count, height, width = struct.unpack_from('>4I', images)
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(count, height, width, 1)
    return Split(pixels, np.frombuffer(labels, np.uint8, offset=8).astype(np.int32))


def encode_idx(split: Split, sizes: Sequence[int]) -> list[bytes]:
    """The content of the IDX files of images and labels: the inverse of `decode_idx`."""
    del sizes  # they follow from the shape
    count, height, width, _ = split.images.shape
    images = struct.pack('>4I', IDX_IMAGES, count, height, width) + split.images.tobytes()
    return [images, struct.pack('>2I', IDX_LABELS, count) + split.labels.astype(np.uint8).tobytes()]


def decode_cifar(contents: Sequence[bytes]) -> Split:
    """Files of CIFAR rows, one after the other, as a Split with images [N, 32, 32, 3]."""
    rows = np.frombuffer(b''.join(contents), np.uint8).reshape(-1, CIFAR_ROW)
    return Split(rows[:, 1:].reshape(-1, *CIFAR_SHAPE).transpose(0, 2, 3, 1), rows[:, 0].astype(np.int32))


def encode_cifar(split: Split, sizes: Sequence[int]) -> list[bytes]:
    """The content of the files of CIFAR rows, each of its size: the inverse of `decode_cifar`."""
    planes = split.images.transpose(0, 3, 1, 2).reshape(len(split.labels), -1)
    rows = np.concatenate([split.labels.astype(np.uint8)[:, None], planes], axis=1)
    ends = np.cumsum([size // CIFAR_ROW for size in sizes])
    return [part.tobytes() for part in np.split(rows, ends[:-1])]


def describe_idx(content: bytes) -> str:
    """What the header of an IDX file says it holds, ready to append to a message; '' for other content."""
    if len(content) >= 16 and struct.unpack_from('>I', content)[0] == IDX_IMAGES:
        _, count, height, width = struct.unpack_from('>4I', content)
        return f' of an IDX file of {count} images of {height} x {width}'
    if len(content) >= 8 and struct.unpack_from('>I', content)[0] == IDX_LABELS:
        return f' of an IDX file of {struct.unpack_from(">2I", content)[1]} labels'
    return ''


FORMATS = {'idx': Format(decode_idx, encode_idx), 'cifar': Format(decode_cifar, encode_cifar)}
