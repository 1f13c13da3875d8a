"""Configuration: frozen dataclasses, checked when made (imports no jax, so that --help is instant).

An arm of an ablation is `dataclasses.replace(base, one_field=...)`.
"""

import dataclasses
import json
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from cnn_research import errors, geometry, schemes

NORMS = ('none', 'batch')
HEADS = ('flatten', 'gap', 'gmp')
BIASES = ('all', 'classes', 'none')
COMPUTE = ('float32', 'bfloat16')
DOWNSAMPLING = ('max', 'blur', 'polyphase')
OPTIMIZERS = ('adam', 'sgd', 'adadelta')
SCHEDULES = ('cosine', 'constant')
LARGEST_CANVAS = 4096  # pixels; what is larger is a slip, and would fill the memory
PER_STAGE = ('features', 'kernel_sizes', 'strides', 'pools', 'sharing')  # fields of a model with an entry for each
_TUPLES = (*PER_STAGE, 'hidden', 'canvas')
POSITIONS = ('left', 'right', 'top', 'bottom', 'center', 'any')


_CHOICES = {
    'padding': geometry.PADDINGS,
    'norm': NORMS,
    'head': HEADS,
    'biases': BIASES,
    'compute': COMPUTE,
    'downsampling': DOWNSAMPLING,
}  # of a model


class Stage(NamedTuple):
    """One stage of a network: a spatial map with a square kernel and stride, then a pool of `pool` x `pool` (1: none)."""

    features: int
    kernel_size: int
    stride: int
    pool: int
    sharing: str


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A network of the family in `models.py`. The first five fields have one entry per stage.

    `norm` follows every layer but the last, and replaces its bias; `biases` says who has them: all layers, the classes alone, or none.
    `downsampling` is how pools pool (`pooling.py`). `compute` is what layers multiply in and hand on; parameters, what the optimizer keeps,
    batch statistics and the loss are float32 always.
    """

    features: tuple[int, ...] = (16, 32)
    kernel_sizes: tuple[int, ...] = (3, 3)
    strides: tuple[int, ...] = (1, 1)
    pools: tuple[int, ...] = (2, 2)
    sharing: tuple[str, ...] = ('shared', 'shared')
    padding: str = 'SAME'
    norm: str = 'none'
    head: str = 'flatten'
    hidden: tuple[int, ...] = ()
    biases: str = 'all'
    compute: str = 'float32'
    downsampling: str = 'max'

    def __post_init__(self):
        with errors.gathered() as check:
            for name in (*PER_STAGE, 'hidden'):
                check(self._entries, name)
            lengths = {name: len(getattr(self, name)) for name in PER_STAGE if isinstance(getattr(self, name), tuple)}
            check(errors.require, len(set(lengths.values())) < 2, f'every stage needs one entry of each field, got {lengths}')
            for name, known in _CHOICES.items():
                check(errors.member, name, getattr(self, name), known)

    def _entries(self, name: str) -> None:
        """Raises InputError unless the field is a tuple of what such a field may hold."""
        values = getattr(self, name)
        if not isinstance(values, tuple):  # a list would not hash, and compiled programs are kept by configuration
            what = f'{name} must be a tuple with one entry per {"layer" if name == "hidden" else "stage"}'
            raise errors.InputError(f'{what}, got {errors.shown(values)}')
        with errors.gathered() as check:
            for value in values:
                if name == 'sharing':
                    check(schemes.parse, value)
                else:
                    check(errors.positive, name, value)

    def stages(self) -> list[Stage]:
        """The stages in order."""
        return [Stage(*s) for s in zip(self.features, self.kernel_sizes, self.strides, self.pools, self.sharing)]

    def with_sharing(self, scheme: str, *stages: int) -> 'ModelConfig':
        """The same network with this sharing in the stages named by index (negative: from the end), or in all when none is named.

        Raises:
          InputError: an unknown scheme, or no such stage.
        """
        count = len(self.sharing)
        for stage in stages:
            errors.require(-count <= stage < count, f'no stage {stage} in a network of {count} stages')
        chosen = {stage % count for stage in stages} if stages else set(range(count))
        sharing = tuple(scheme if i in chosen else old for i, old in enumerate(self.sharing))
        return dataclasses.replace(self, sharing=sharing)

    def with_kernel_size(self, size: int) -> 'ModelConfig':
        """The same network with this kernel size in every stage."""
        return dataclasses.replace(self, kernel_sizes=(size,) * len(self.kernel_sizes))

    def stacked(self, depth: int) -> 'ModelConfig':
        """Every stage as `depth` stages of its kernel and width, of which the first strides and the last pools (VGG, Simonyan 2015)."""
        errors.positive('depth', depth)

        def repeat(values):
            return tuple(value for value in values for _ in range(depth))

        strides = tuple(s if i == 0 else 1 for s in self.strides for i in range(depth))
        pools = tuple(p if i == depth - 1 else 1 for p in self.pools for i in range(depth))
        repeated = {name: repeat(getattr(self, name)) for name in ('features', 'kernel_sizes', 'sharing')}
        return dataclasses.replace(self, strides=strides, pools=pools, **repeated)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What is learned from, and where on the canvas. `train_size` None: all; `canvas` None: the images' own size, no positions.

    `probe` also tests at positions all over the canvas, and whether two shifts of an image are read alike (`probe.py`).
    """

    dataset: str = 'digits'
    train_size: int | None = None
    canvas: tuple[int, int] | None = None
    train_positions: str | None = None
    unseen_positions: str | None = None
    probe: bool = False

    def __post_init__(self):
        with errors.gathered() as check:
            check(errors.text, 'dataset', self.dataset)
            if self.train_size is not None:
                check(errors.positive, 'train_size', self.train_size)
            if self.canvas is None:
                check(self._without_canvas)
            else:
                check(self._on_canvas)
            for name in ('train_positions', 'unseen_positions'):
                if getattr(self, name) is not None:
                    check(errors.member, name, getattr(self, name), POSITIONS)
            check(errors.truth, 'probe', self.probe)

    def _without_canvas(self) -> None:
        """Raises InputError for what needs a canvas."""
        with errors.gathered() as check:
            for name in ('train_positions', 'unseen_positions'):
                check(errors.require, getattr(self, name) is None, f'{name} needs a canvas larger than the images: give canvas too')
            check(errors.require, self.probe is not True, 'probe needs a canvas larger than the images: give canvas too')

    def _on_canvas(self) -> None:
        """Raises InputError for a canvas of another shape, or one without positions."""
        with errors.gathered() as check:
            sides = self.canvas if isinstance(self.canvas, tuple) and len(self.canvas) == 2 else ()
            check(errors.require, sides != (), f'canvas must be (height, width) in pixels, got {errors.shown(self.canvas)}')
            for side in sides:
                check(_side, side)
            known = ', '.join(POSITIONS)
            check(errors.require, self.train_positions is not None, f'a canvas needs train_positions; known: {known}')


def _side(side: Any) -> None:
    errors.positive('canvas', side)
    errors.require(side <= LARGEST_CANVAS, f'canvas must have sides of at most {LARGEST_CANVAS} pixels, got {side}')


_BOUNDS: dict[str, dict[str, float]] = {
    'learning_rate': {'at_least': 1e-30, 'below': 1e30},  # what float32 holds, with room for what is made of it
    'weight_decay': {'at_least': 0.0, 'below': 1e30},
    'warmup': {'at_least': 0.0, 'below': 1.0},
}  # of a training


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How it is learned. An epoch is so many `passes` over the training images, and ends with a look at the validation images.

    `warmup` is the share of all steps over which the rate rises linearly.

    Weight decay is decoupled, but for Adadelta, where it is added to the gradient. With `patience`, training ends when the validation loss
    has had no new minimum for so many epochs, and the state of the minimum is what it ends with.

    In training every image is moved on its canvas by up to `shift` pixels along both axes (black comes in behind it), half of them mirrored
    if `flip`.
    At the start of epoch `relax_epoch` (from 0; None: never) every stage is embedded into the scheme `relax_to`, and learning goes on.
    Training ends as diverged at the first loss that is not finite; with `skip_nonfinite`, up to so many updates in a row are left out
    first that are not finite (`optax.apply_if_finite`).
    `watch` also records test accuracy and the distance from the nearest convolution after every epoch; nothing is chosen by them.
    """

    epochs: int = 10
    batch_size: int = 128
    optimizer: str = 'adam'
    learning_rate: float = 3e-3
    schedule: str = 'cosine'
    warmup: float = 0.05
    weight_decay: float = 0.0
    patience: int | None = None
    shift: int = 0
    flip: bool = False
    relax_epoch: int | None = None
    relax_to: str = 'dense'
    watch: bool = False
    passes: int = 1
    skip_nonfinite: int = 0

    def __post_init__(self):
        with errors.gathered() as check:
            for name in ('epochs', 'passes', 'batch_size'):
                check(errors.positive, name, getattr(self, name))
            check(errors.member, 'optimizer', self.optimizer, OPTIMIZERS)
            check(errors.member, 'schedule', self.schedule, SCHEDULES)
            for name, bounds in _BOUNDS.items():
                check(errors.real, name, getattr(self, name), **bounds)
            if self.patience is not None:
                check(errors.positive, 'patience', self.patience)
            check(errors.whole, 'shift', self.shift, 0)
            check(errors.whole, 'skip_nonfinite', self.skip_nonfinite, 0)
            check(errors.truth, 'flip', self.flip)
            check(errors.truth, 'watch', self.watch)
            check(schemes.parse, self.relax_to)
            if self.relax_epoch is not None:
                last = min(self.epochs, errors.LARGEST) - 1 if isinstance(self.epochs, int) and self.epochs > 0 else errors.LARGEST
                check(errors.whole, 'relax_epoch', self.relax_epoch, 0, last)
                patience = 'a relaxed training has no patience: its best epoch may be one of another network'
                check(errors.require, self.patience is None, patience)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that fixes a training but its seed."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()

    @property
    def final_model(self) -> ModelConfig:
        """The network at the end of training: the one at the start, unless it is relaxed on the way."""
        return self.model if self.train.relax_epoch is None else self.model.with_sharing(self.train.relax_to)

    def to_json(self) -> dict[str, Any]:
        """Plain nested dict of JSON values; `from_json` is its inverse."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, tree: Any) -> 'Config':
        """The configuration that `to_json` wrote.

        Raises:
          InputError: for a tree with other fields, which another version of this package may have written, or with values that no
            configuration has; every one of them is named.
        """
        kinds = {'model': ModelConfig, 'data': DataConfig, 'train': TrainConfig}
        with errors.gathered() as check:
            check(_fields, 'configuration', tree, kinds)
            parts = [check(_built, name, kind, tree[name]) for name, kind in kinds.items() if isinstance(tree, dict) and name in tree]
        return cls(*parts)


def _built(part: str, kind: Callable[..., Any], tree: Any) -> Any:
    """The part of a configuration that was written as this tree. Raises InputError."""
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    with errors.gathered() as check:
        check(_fields, part, tree, names)
        given = {name: tree[name] for name in names if isinstance(tree, dict) and name in tree}
        return check(kind, **{name: tuple(v) if isinstance(v, list) and name in _TUPLES else v for name, v in given.items()})


def _fields(what: str, tree: Any, names: Collection[str]) -> None:
    """Raises InputError unless the tree is a dict with these keys and no others."""
    if not isinstance(tree, dict):
        raise errors.InputError(f'{what} must be a JSON object with the fields {", ".join(names)}, got {errors.shown(tree)}')
    with errors.gathered() as check:
        for name in tree:
            check(errors.member, f'field of {what}', name, names)
        missing = [name for name in names if name not in tree]
        check(errors.require, not missing, f'{what} lacks {", ".join(missing)}')
        hint = 'another version of this package may have written these other fields: give another --workdir'
        check(errors.require, not check.found, hint)
