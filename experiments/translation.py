"""Which ingredient lets a network read images at positions where it never saw one?

    python -m experiments.translation                                     digits, 12 networks, 5 seeds
    python -m experiments.translation --arms=all --seeds=1                digits, all 147 combinations that mean something
    python -m experiments.translation --dataset=mnist --seeds=3           or fashion_mnist

Four factors: sharing (one filter for all positions, filters that repeat, mixtures of filters, a filter per position, dense), what ends the
maps (flatten, the mean or the maximum over positions), padding, and what makes maps smaller (a maximum over squares, a stride, a blurred
maximum, adaptive polyphase sampling). By default one of them at a time is another than in the base: a convolution with SAME padding, max
pools and a global maximum. Images stand in the left of a canvas in training, and are tested there, in the right, and at a grid of positions
all over it. `consistency` is the share of images that are read alike at two random positions (Zhang 2019), `circular` that after two
random circular shifts of the canvas (Chaman & Dokmanic 2021). With all combinations, a table shows what each level adds.
"""

import dataclasses
import itertools

from cnn_research import ablation, config
from experiments import runner

FACTORS = {
    'sharing': ('shared', 'tiled', 'low_rank', 'local', 'dense'),
    'head': ('gmp', 'gap', 'flatten'),
    'padding': ('same', 'valid', 'circular'),
    'downsampling': ('max', 'stride', 'blur', 'polyphase'),
}
SCHEMES = {'tiled': 'tiled:2x2', 'low_rank': 'low_rank:4'}


def arm(sharing: str, head: str, padding: str, downsampling: str) -> ablation.Change:
    """The network with these levels; a stride takes the place of the pool behind it."""

    def changed(model: config.ModelConfig) -> config.ModelConfig:
        model = model.with_sharing(SCHEMES.get(sharing, sharing))
        model = dataclasses.replace(model, head=head, padding=padding.upper())
        if downsampling == 'stride':
            return dataclasses.replace(model, strides=model.pools, pools=(1,) * len(model.pools))
        return dataclasses.replace(model, downsampling=downsampling)

    return changed


def means_something(sharing: str, head: str, padding: str, downsampling: str) -> bool:
    """Dense maps have no padding, and no neighbours that a blur or a grid could tell: they have heads alone."""
    return sharing != 'dense' or (padding, downsampling) == ('same', 'max')


LEVELS = {'_'.join(levels): levels for levels in itertools.product(*FACTORS.values()) if means_something(*levels)}
BASE = next(iter(LEVELS))


def _near(levels: tuple[str, ...]) -> bool:
    return sum(one != other for one, other in zip(levels, LEVELS[BASE])) <= 1


def probed(base: config.Config, epochs: int, **data) -> config.Config:
    """The base, tested all over its canvas."""
    placed = dataclasses.replace(base.data, probe=True, **data)
    return dataclasses.replace(base, data=placed, train=dataclasses.replace(base.train, epochs=epochs))


EXPERIMENT = ablation.Experiment(
    name='translation',
    question='Which ingredient lets a network read images at positions where it never saw one?',
    arms={name: arm(*levels) for name, levels in LEVELS.items()},
    compared_with={name: BASE for name, levels in LEVELS.items() if _near(levels) and name != BASE},
    small=probed(runner.digits(config.ModelConfig(features=(16, 32), head='gmp')), epochs=20),
    full=probed(
        runner.full(config.ModelConfig(features=(8, 16), head='gmp')),
        epochs=4, canvas=(40, 40), train_positions='left', unseen_positions='right',
    ),
    measure='unseen_accuracy',
    owns=('sharing', 'head', 'padding', 'downsampling'),
    default=tuple(name for name, levels in LEVELS.items() if _near(levels)),
)  # fmt: skip


def say(book, dataset, rows, arms) -> tuple[str, list]:
    """What is printed and drawn besides the table."""
    from experiments import effects  # figures: imported when there is something to show

    return effects.say(rows, arms, FACTORS, LEVELS, 1 / len(dataset.class_names))


if __name__ == '__main__':
    runner.main(EXPERIMENT, __doc__, more=say)
