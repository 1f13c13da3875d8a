"""Edges: is there a vertical edge in the image, wherever it stands? A generated task with known positions.

An image, 16 x 16 grey, holds one pattern: a bright bar beside a dark one, so that an edge of 8 pixels lies between them. It is vertical
(bright at the left) in class 1. In class 0 it is horizontal or diagonal (either way), or there is none, a quarter each. All have the same
contrast, noise and clutter. The background is the middle grey; a network sees no padding there that it could take for an edge if it
pads with nothing (VALID).

The middle of the pattern stands at one of 9 x 9 positions. Training has it at some of them; tests have it
at these (test) and at all others (unseen), with as many images at each, in the order of `places`.
"""

import dataclasses
import functools
import re

import numpy as np

from cnn_research.data.dataset import Dataset, Split, assemble
from cnn_research.errors import InputError, positive

SIDE, LENGTH = 16, 8
FREE = range(LENGTH // 2, SIDE - LENGTH // 2 + 1)  # rows and columns of the middle, between pixels
VALIDATION, AT_EACH = 500, 40  # images to validate, and to test at each position
ORIENTATIONS = ('vertical', 'horizontal', 'falling', 'rising', 'none')
_SEED = 7
_ORDER_SEED = 171  # whose first four positions lie around the middle, and at all phases of a pool of 2


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the task can be told, in a name such as edges/positions4-noise0.3.

    positions: how many positions training has. images: of training. copies: of every one of them, moved circularly so that the pattern
    stands at another position, any of all (then none is unseen). contrast: between the bars, noise: its standard deviation, both in shares
    of white. thickness: of a bar, in pixels. clutter: points of random brightness, at most as far from grey as the bars.
    """

    positions: int = 4
    images: int = 2000
    copies: int = 0
    contrast: float = 0.5
    noise: float = 0.15
    thickness: int = 2
    clutter: int = 4

    def __post_init__(self):
        for name in ('positions', 'images', 'thickness'):
            positive(name, getattr(self, name))
        if self.positions > len(FREE) ** 2:
            raise InputError(f'edges have {len(FREE) ** 2} positions, got {self.positions}')
        if self.images < 10 or self.images * (1 + self.copies) > 10**6:
            raise InputError(f'images of edges must be from 10 to 1,000,000 with their copies, got {self.images * (1 + self.copies)}')
        if not 0 < self.contrast <= 1 or not 0 <= self.noise <= 1:
            raise InputError(f'contrast must be above 0 and at most 1, noise from 0 to 1, got {self.contrast} and {self.noise}')
        if self.thickness > LENGTH // 2 or not 0 <= self.clutter <= SIDE**2:
            raise InputError(
                f'thickness must be at most {LENGTH // 2}, clutter from 0 to {SIDE**2}, got {self.thickness} and {self.clutter}'
            )


def parse(text: str) -> Setting:
    """'positions4-noise0.3' as a Setting; what is not named has its default. Raises InputError for what is no such text."""
    known = {field.name: field.type for field in dataclasses.fields(Setting)}
    given: dict[str, float] = {}
    for part in text.split('-') if text else ():
        found = re.fullmatch(r'([a-z]+)([0-9]{1,9}(?:\.[0-9]{1,9})?)', part)
        if not found or found[1] not in known or found[1] in given:
            raise InputError(f'edges are told {", ".join(known)}, as in edges/positions4-noise0.3, got {part!r}')
        if known[found[1]] is int and '.' in found[2]:
            raise InputError(f'{found[1]} of edges must be a whole number, got {found[2]}')
        given[found[1]] = known[found[1]](found[2])  # type: ignore[operator]
    return Setting(**given)  # type: ignore[arg-type]


def name(setting: Setting) -> str:
    """The name of the data set with this setting: what differs from the default is said."""
    default = Setting()
    fields = (field.name for field in dataclasses.fields(Setting))
    told = [field + _number(getattr(setting, field)) for field in fields if getattr(setting, field) != getattr(default, field)]
    return f'edges/{"-".join(told)}' if told else 'edges'


def _number(value: float) -> str:
    return f'{value:.9f}'.rstrip('0').rstrip('.')


def places(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The positions of training, int [count, 2], and all others, (row, column) each, both in row-major order.

    The first is the middle, the next ones come in an order that was drawn once: so more positions hold fewer. (On a regular grid they would
    all stand alike to the squares of a pool.)
    """
    free = np.array([(row, column) for row in FREE for column in FREE])
    middle = len(free) // 2
    order = [middle, *(i for i in np.random.RandomState(_ORDER_SEED).permutation(len(free)) if i != middle)]
    chosen = np.isin(np.arange(len(free)), order[:count])
    return free[chosen], free[~chosen]


def tested(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """The positions of the test and of the unseen test: copies leave nothing unseen."""
    return places(len(FREE) ** 2 if setting.copies else setting.positions)


@functools.cache
def pattern(orientation: str, thickness: int) -> np.ndarray:
    """The bars on a square of LENGTH x LENGTH pixels around the middle: 1 bright, -1 dark, 0 neither. Horizontal is bright above."""
    across, down = np.meshgrid(np.arange(LENGTH) - (LENGTH - 1) / 2, np.arange(LENGTH) - (LENGTH - 1) / 2)
    along = {'vertical': down, 'horizontal': across, 'falling': (across + down) / 2**0.5, 'rising': (across - down) / 2**0.5}
    beside = {'vertical': across, 'horizontal': down, 'falling': (across - down) / 2**0.5, 'rising': (across + down) / 2**0.5}
    if orientation == 'none':
        return np.zeros((LENGTH, LENGTH))
    inside = (np.abs(along[orientation]) < LENGTH / 2) & (np.abs(beside[orientation]) < thickness)
    return -np.sign(beside[orientation]) * inside


def draw(setting: Setting, at: np.ndarray, random: np.random.RandomState) -> Split:
    """An image for each middle in `at` [N, 2]: every other one has a vertical edge, the others take turns."""
    number = len(at)
    kinds = np.where(np.arange(number) % 2 == 0, 0, 1 + np.arange(number) // 2 % 4)
    images = 0.5 + setting.noise * random.standard_normal((number, SIDE, SIDE))
    half = setting.contrast / 2
    for image, kind, (row, column) in zip(images, kinds, at - LENGTH // 2):
        image[row : row + LENGTH, column : column + LENGTH] += half * pattern(ORIENTATIONS[kind], setting.thickness)
        spots = random.randint(0, SIDE, (2, setting.clutter))
        image[spots[0], spots[1]] += half * (2 * random.random_sample(setting.clutter) - 1)
    pixels = np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8)[..., None]
    return Split(pixels, (kinds == 0).astype(np.int32))


def copied(split: Split, at: np.ndarray, copies: int, random: np.random.RandomState) -> Split:
    """The images, whose patterns stand at `at` [N, 2], and so many copies of each, moved circularly, so that the pattern stays whole."""
    free = np.array([(row, column) for row in FREE for column in FREE])
    images = [split.images]
    for _ in range(copies):
        moves = free[random.randint(len(free), size=len(at))] - at
        images.append(np.stack([np.roll(image, move, axis=(0, 1)) for image, move in zip(split.images, moves)]))
    return Split(np.concatenate(images), np.tile(split.labels, 1 + copies))


def load(text: str = '') -> Dataset:
    """The task with a setting as `parse` reads it. Without positions that training lacks there is no unseen test."""
    setting = parse(text)
    seen, _ = places(setting.positions)
    random = np.random.RandomState(_SEED)
    at = seen[random.randint(len(seen), size=setting.images)]
    train = copied(draw(setting, at, random), at, setting.copies, random)
    validation = draw(setting, seen[random.randint(len(seen), size=VALIDATION)], random)
    tests = [draw(setting, np.repeat(where, AT_EACH, axis=0), random) for where in tested(setting)]
    dataset = assemble(f'edges/{text}' if text else 'edges', train, validation, tests[0], ('none', 'vertical edge'))
    return dataset.with_unseen(tests[1]) if len(tests[1].labels) else dataset
