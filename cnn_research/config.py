"""Configuration: frozen dataclasses, checked when made (imports no jax, so that --help is instant).

An arm of an ablation is `dataclasses.replace(base, one_field=...)`.
"""

import dataclasses
import json
import math
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
POSITIONS = ('left', 'right', 'top', 'bottom', 'center', 'any')


def real(name: str, value: float, *, above: float = -math.inf, at_least: float = -math.inf, below: float = math.inf) -> None:
    """Raises InputError unless `value` is finite and within the bounds."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value <= above or value < at_least or value >= below:
        low = f'above {above}' if above > -math.inf else f'at least {at_least}'
        high = f' and below {below}' if below < math.inf else ''
        raise errors.InputError(f'{name} must be a finite number {low}{high}, got {value!r}')


def member(kind: str, value: str, known: tuple[str, ...]) -> None:
    """Raises InputError, listing the known names, unless `value` is one of them."""
    if value not in known:
        raise errors.known(kind, value, known)


def truth(name: str, value: bool) -> None:
    """Raises InputError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise errors.InputError(f'{name} must be True or False, got {value!r}')


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
        for name in ('features', 'kernel_sizes', 'strides', 'pools', 'sharing', 'hidden'):
            if not isinstance(getattr(self, name), tuple):  # a list would not hash, and compiled programs are kept by configuration
                raise errors.InputError(f'{name} must be a tuple with one entry per {"layer" if name == "hidden" else "stage"}')
        lengths = {name: len(getattr(self, name)) for name in ('features', 'kernel_sizes', 'strides', 'pools', 'sharing')}
        if len(set(lengths.values())) > 1:
            raise errors.InputError(f'every stage needs one entry of each field, got {lengths}')
        for name in ('features', 'kernel_sizes', 'strides', 'pools', 'hidden'):
            for value in getattr(self, name):
                errors.positive(name, value)
        for value in self.sharing:
            schemes.parse(value)
        member('padding', self.padding, geometry.PADDINGS)
        member('norm', self.norm, NORMS)
        member('head', self.head, HEADS)
        member('biases', self.biases, BIASES)
        member('compute', self.compute, COMPUTE)
        member('downsampling', self.downsampling, DOWNSAMPLING)

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
            if not -count <= stage < count:
                raise errors.InputError(f'no stage {stage} in a network of {count} stages')
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
        if self.train_size is not None:
            errors.positive('train_size', self.train_size)
        if self.canvas is not None and (not isinstance(self.canvas, tuple) or len(self.canvas) != 2):
            raise errors.InputError(f'canvas must be (height, width) in pixels, got {self.canvas!r}')
        for side in self.canvas or ():
            errors.positive('canvas', side)
            if side > LARGEST_CANVAS:
                raise errors.InputError(f'canvas must have sides of at most {LARGEST_CANVAS} pixels, got {side}')
        for name in ('train_positions', 'unseen_positions'):
            value = getattr(self, name)
            if value is not None:
                member(name, value, POSITIONS)
                if self.canvas is None:
                    raise errors.InputError(f'{name} needs a canvas larger than the images: give canvas too')
        if self.canvas is not None and self.train_positions is None:
            raise errors.InputError(f'a canvas needs train_positions; known: {", ".join(POSITIONS)}')
        truth('probe', self.probe)
        if self.probe and self.canvas is None:
            raise errors.InputError('probe needs a canvas larger than the images: give canvas too')


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
        errors.positive('epochs', self.epochs)
        errors.positive('passes', self.passes)
        errors.positive('batch_size', self.batch_size)
        member('optimizer', self.optimizer, OPTIMIZERS)
        member('schedule', self.schedule, SCHEDULES)
        real('learning_rate', self.learning_rate, above=0.0)
        real('weight_decay', self.weight_decay, at_least=0.0)
        real('warmup', self.warmup, at_least=0.0, below=1.0)
        if self.patience is not None:
            errors.positive('patience', self.patience)
        errors.whole('shift', self.shift, 0)
        errors.whole('skip_nonfinite', self.skip_nonfinite, 0)
        truth('flip', self.flip)
        schemes.parse(self.relax_to)
        if self.relax_epoch is not None and self.patience is not None:
            raise errors.InputError('a relaxed training has no patience: its best epoch may be one of another network')
        if self.relax_epoch is not None:
            real('relax_epoch', self.relax_epoch, at_least=0, below=self.epochs)


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
    def from_json(cls, tree: dict[str, Any]) -> 'Config':
        """The configuration that `to_json` wrote. Raises InputError for one with other fields, which another version wrote."""

        def build(kind, fields):
            return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})

        try:
            return cls(build(ModelConfig, tree['model']), build(DataConfig, tree['data']), build(TrainConfig, tree['train']))
        except TypeError as e:
            raise errors.InputError(f'a configuration of another version of this package ({e}): give another --workdir') from None
