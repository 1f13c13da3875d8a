"""A problem: one configuration on one data set, ready to be trained; its arrays, and which facts of it compiled programs depend on."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import numpy as np

from cnn_research import config, cost, errors
from cnn_research.data import Dataset, canvas
from cnn_research.data.streamed import Streamed

if TYPE_CHECKING:  # what this module does needs no jax, and --help should not wait for it
    import jax

Array = Union['jax.Array', np.ndarray]

# Every evaluated image stands at one position of its set, the same for all arms and seeds.
_POSITION_SEED = 1989
_MOST_STEPS = 2**31 - 1  # that a program can count
_LARGE = 2**32  # bytes of training images, from which on the first `_SCALED` of the draw tell the scale; whatever memory there is
_SCALED = 10_000
_PIECE = 1024  # images that are decoded at once


@dataclasses.dataclass(frozen=True)
class Program:
    """What compiled training programs depend on, hashable: problems that agree in it share them."""

    model: config.ModelConfig
    image: tuple[int, int, int]  # what the network sees: (H, W, C)
    num_classes: int
    available: int  # training images of the data set, of which a problem may use a part
    ordered: int  # numbers of which a pass is a random order; those of images that a problem does not use are left out
    passes: int
    batch_size: int
    optimizer: str
    schedule: str
    decays: bool
    shift: int
    flip: bool
    skip_nonfinite: int


class Setting(NamedTuple):
    """The numbers of a problem that its compiled programs are given when they run."""

    train_size: np.int32
    total_steps: np.int32
    warmup_steps: np.int32
    learning_rate: np.float32
    weight_decay: np.float32


@dataclasses.dataclass(frozen=True)
class Problem:
    """A configuration with what its data set adds: `available` training images, of which it uses `train_size`."""

    config: config.Config
    image: tuple[int, int, int]  # what the network sees: (H, W, C)
    num_classes: int
    train_size: int
    available: int

    @property
    def batch_size(self) -> int:
        """Images per step: a training set smaller than the batch is one batch."""
        return min(self.config.train.batch_size, self.train_size)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches per epoch; the images left over change with the order of every pass."""
        return self.config.train.passes * (self.train_size // self.batch_size)

    @property
    def program(self) -> Program:
        """What is compiled for it."""
        c, train = self.config, self.config.train
        # Many passes are ordered at once, so few images should not be picked out of many: sizes up to a power of two share a program.
        ordered = self.available if train.passes == 1 else min(self.available, 1 << (self.train_size - 1).bit_length())
        sizes = (self.image, self.num_classes, self.available, ordered, train.passes, self.batch_size)
        return Program(
            c.model, *sizes, train.optimizer, train.schedule, train.weight_decay > 0, train.shift, train.flip, train.skip_nonfinite
        )

    @property
    def setting(self) -> Setting:
        """What is not."""
        train, total = self.config.train, self.config.train.epochs * self.steps_per_epoch
        warmup = min(round(train.warmup * total), total - 1)
        counts = np.int32(self.train_size), np.int32(total), np.int32(warmup)
        return Setting(*counts, np.float32(train.learning_rate), np.float32(train.weight_decay))


class Examples(NamedTuple):
    """Images uint8 [N, h, w, C], labels int32 [N], and where each stands on the canvas int32 [N, 2] (None: no canvas)."""

    images: Array
    labels: Array
    corners: Array | None


class Arrays(NamedTuple):
    """The splits of a problem in host memory (on the device only `pool` is held of them, the others are None).

    `pool`: all training images of the data set; `draw` int32 [available]: an order of them, of which the first train_size are `train`;
    `positions` [P, 2]: where training puts images (None: no canvas); `scale` [C] is what raw pixels are multiplied by.
    """

    pool: Examples
    draw: Array
    train: Examples | None
    validation: Examples | None
    test: Examples | None
    unseen: Examples | None
    positions: Array | None
    scale: Array


def image_shape(data: config.DataConfig, dataset: Dataset) -> tuple[int, int, int]:
    """What a network sees of this data set: (H, W, C)."""
    height, width, channels = dataset.train_images.shape[1:]
    return (*(data.canvas or (height, width)), channels)


def make(c: config.Config, dataset: Dataset, memory: int | None = None) -> Problem:
    """The problem that a configuration poses on a data set, checked as far as shapes and sizes go.

    memory: the bytes that there are for it (None: all of this machine's).

    Raises:
      InputError: train_size above the data's, a shift out of the image or beside unseen positions, more steps than can be counted, a
        canvas too small, a kernel or pool that does not fit; of the problems that were found TooLargeError, if they all are networks
        larger than the memory of this machine.
    """
    available = len(dataset.train_images)
    size = available if c.data.train_size is None else c.data.train_size
    shape, classes, shift, own = image_shape(c.data, dataset), len(dataset.class_names), c.train.shift, dataset.unseen_images is not None
    problem = Problem(c, shape, classes, size, available)
    with errors.gathered() as check:
        check(errors.require, size <= available, f'train_size {size} is larger than the {available} training images of {dataset.name}')
        check(errors.require, c.data.canvas is None or not own, f'{dataset.name} has positions of its own: give no canvas')
        where = 'their canvas' if c.data.canvas else 'themselves'
        check(errors.require, shift < min(shape[:2]), f'shift {shift} would move images of {dataset.name} out of {where}')
        near = 'a shift would show training images near unseen positions: give no shift, or unseen_positions none'
        check(errors.require, not shift or (c.data.unseen_positions is None and not own), near)
        steps = c.train.epochs * problem.steps_per_epoch
        check(errors.require, steps <= _MOST_STEPS, f'training would take {steps:,} steps, at most {_MOST_STEPS:,} can be: fewer epochs')
        check(_positions, c.data, dataset)
        for model in (c.model, c.final_model):
            check(cost.check_training_fits, model, shape, classes, c.train, memory)
    return problem


def arrays(problem: Problem, dataset: Dataset, seed: int) -> Arrays:
    """The splits in host memory. The training draw of a seed is `nested`: a smaller train_size gives a subset of a larger one.

    Pixels are to be divided by the training images' root mean square (per channel) and nothing is subtracted: black stays 0, so that
    background, canvas and zero padding look the same to a filter.
    """
    draw = np.arange(problem.available, dtype=np.int32)
    if problem.train_size < problem.available:
        draw = nested(dataset.train_labels, seed)
    chosen = draw[: problem.train_size]
    seen, unseen = _positions(problem.config.data, dataset)
    images = dataset.train_images.at(chosen) if isinstance(dataset.train_images, Streamed) else Chosen(dataset.train_images, chosen)
    return Arrays(
        pool=Examples(dataset.train_images, dataset.train_labels, None),
        draw=draw,
        train=_standing(images, dataset.train_labels[chosen], seen),
        validation=_standing(dataset.validation_images, dataset.validation_labels, seen),
        test=_standing(dataset.test_images, dataset.test_labels, seen),
        unseen=_unseen(dataset, unseen),
        positions=seen,
        scale=_scale(images, dataset.train_images),
    )


class Chosen:
    """Rows of an array [N, ...] by their indices, indexed as an array of them would be along its first axis, and not copied."""

    def __init__(self, array: np.ndarray, indices: np.ndarray):
        self._array, self._indices = array, indices
        self.shape, self.ndim, self.dtype = (len(indices), *array.shape[1:]), array.ndim, array.dtype

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        return self._array[self._indices[index]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)


def _scale(images: Any, available: Any) -> np.ndarray:
    """What pixels of training are multiplied by, [C]. Squares are whole numbers, and so are their sums: in pieces they are the same."""
    number = min(len(images), _SCALED) if math.prod(available.shape) >= _LARGE else len(images)
    pieces = (images[first : min(first + _PIECE, number)] for first in range(0, number, _PIECE))
    total = sum(np.square(piece, dtype=np.float32).sum(axis=(0, 1, 2), dtype=np.float64) for piece in pieces)
    square = total / (number * math.prod(images.shape[1:3]))
    return (1 / np.sqrt(np.maximum(square, 1e-12))).astype(np.float32)


def nested(labels: np.ndarray, seed: int) -> np.ndarray:
    """A random order of the examples, int32 [N], of which every beginning has all classes in their shares, but for rounding."""
    random = np.random.RandomState(seed)
    order = random.permutation(len(labels)).astype(np.int32)
    shuffled, place = labels[order], np.empty(len(labels))
    for label in np.unique(labels):
        own = np.flatnonzero(shuffled == label)
        place[own] = (np.arange(len(own)) + random.uniform()) / len(own)
    return order[np.argsort(place, kind='stable')]


def _positions(data: config.DataConfig, dataset: Dataset) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(seen, unseen) positions [P, 2], each None where there are none. A position used in training is never an unseen one."""
    if data.canvas is None or data.train_positions is None:
        return None, None
    size = dataset.train_images.shape[1:3]
    seen = canvas.positions(data.train_positions, size, data.canvas)
    if data.unseen_positions is None:
        return seen, None
    unseen = canvas.without(canvas.positions(data.unseen_positions, size, data.canvas), seen)
    if not len(unseen):
        raise errors.InputError(
            f'no position of {data.unseen_positions!r} is unseen: training uses them all ({data.train_positions!r}): choose others, or none'
        )
    return seen, unseen


def _unseen(dataset: Dataset, places: np.ndarray | None) -> Examples | None:
    """What training never shows: the test images at other places, or the data set's own second test."""
    if places is not None:
        return _standing(dataset.test_images, dataset.test_labels, places)
    if dataset.unseen_images is not None and dataset.unseen_labels is not None:
        return Examples(dataset.unseen_images, dataset.unseen_labels, None)
    return None


def _standing(images: Any, labels: np.ndarray, places: np.ndarray | None) -> Examples:
    if places is None:
        return Examples(images, labels, None)
    return Examples(images, labels, places[np.random.RandomState(_POSITION_SEED).randint(len(places), size=len(images))])
