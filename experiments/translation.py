"""Which ingredient lets a network read images at positions where it never saw one?

    python -m experiments.translation                                     digits, 12 networks, 5 seeds
    python -m experiments.translation --arms=all --seeds=1                digits, all 147 combinations that mean something
    python -m experiments.translation --dataset=mnist --seeds=3           or fashion_mnist, 40 minutes

Four factors: sharing (one filter for all positions, filters that repeat, mixtures of filters, a filter per position, dense), what ends the
maps (flatten, the mean or the maximum over positions), padding, and what makes maps smaller (a maximum over squares, a stride, a blurred
maximum, adaptive polyphase sampling). By default one of them at a time is another than in the base: a convolution with SAME padding, max
pools and a global maximum. Images stand in the left of a canvas in training, and are tested there, in the right, and at a grid of positions
all over it. `consistency` is the share of images that are read alike at two random positions (Zhang 2019), `circular` that after two
random circular shifts of the canvas (Chaman & Dokmanic 2021). With all combinations, a table shows what each level adds.

Digits, 8 x 8 on a 16 x 16 canvas, 205 seconds, 95 % t intervals. Sharing and a head that forgets the position are needed both: local and
dense layers guess two pixels beside where training was, and so does sharing under a flatten head after four. Under sharing and a global
maximum, repeated filters cost 7 points and mixtures nothing; a stride in place of a pool costs 16 points at unseen positions (10 at seen
ones). Blurred and adaptive pools do not better than a plain one here, where the maximum over 4 x 4 maps at the end forgives what two pools
do. VALID padding halves the unseen accuracy (45 %): its maps leave out the last columns, to which training never put anything. Consistency
under circular shifts, which tear digits apart at the border, is near one half for all but circular padding (98 %).

    arm                        n    weights       MACs  test accuracy         unseen  difference, unseen                   to   train
    ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
    shared_gmp_same_max        5      5,130    332,096   97.2 % ± 1.3  97.9 % ±  0.4            –                              97.9 %
    shared_gmp_same_stride     5      5,130     83,264   86.9 % ± 2.5  81.7 % ±  7.9        -16.2 ±  7.6  shared_gmp_same_max  87.3 %
    shared_gmp_same_blur       5      5,130    332,096   96.0 % ± 3.6  95.2 % ±  3.3         -2.7 ±  3.2  shared_gmp_same_max  97.0 %
    shared_gmp_same_polyphase  5      5,130    332,096   97.1 % ± 0.9  96.7 % ±  0.6         -1.2 ±  0.8  shared_gmp_same_max  99.1 %
    shared_gmp_valid_max       5      5,130    143,744   94.3 % ± 3.0  45.4 % ± 14.2        -52.5 ± 14.1  shared_gmp_same_max  94.5 %
    shared_gmp_circular_max    5      5,130    332,096   97.8 % ± 0.7  97.6 % ±  0.7         -0.3 ±  0.7  shared_gmp_same_max  98.5 %
    shared_gap_same_max        5      5,130    332,096   93.6 % ± 2.3  93.8 % ±  3.5         -4.1 ±  3.6  shared_gmp_same_max  93.4 %
    shared_flatten_same_max    5      9,930    336,896   97.5 % ± 1.1  19.3 % ±  6.1        -78.6 ±  6.1  shared_gmp_same_max  97.8 %
    tiled_gmp_same_max         5     19,386    332,096   91.1 % ± 1.3  91.2 % ±  2.4         -6.7 ±  2.4  shared_gmp_same_max  91.1 %
    low_rank_gmp_same_max      5     20,666  1,352,000   97.4 % ± 0.7  97.2 % ±  1.3         -0.7 ±  1.3  shared_gmp_same_max  98.7 %
    local_gmp_same_max         5    332,154    332,096   88.7 % ± 1.4  10.2 % ±  1.7        -87.7 ±  1.6  shared_gmp_same_max  88.2 %
    dense_gmp_same_max         5  3,146,106  3,146,048   96.6 % ± 0.8  11.5 % ±  1.3        -86.4 ±  1.6  shared_gmp_same_max  95.8 %

In %:

    arm                             unseen    anywhere  consistency    circular
    ───────────────────────────────────────────────────────────────────────────
    shared_gmp_same_max         97.9 ± 0.4  97.4 ± 0.5   96.7 ± 1.2  54.9 ± 6.3
    shared_gmp_same_stride      81.7 ± 7.9  84.5 ± 5.1   77.4 ± 7.8  44.0 ± 1.8
    shared_gmp_same_blur        95.2 ± 3.3  96.1 ± 2.5   96.3 ± 3.6  54.3 ± 6.6
    shared_gmp_same_polyphase   96.7 ± 0.6  96.7 ± 1.1   97.8 ± 1.3  57.5 ± 6.2
    shared_gmp_valid_max       45.4 ± 14.2  73.8 ± 8.2   62.9 ± 9.2  26.4 ± 2.6
    shared_gmp_circular_max     97.6 ± 0.7  97.8 ± 0.7   98.0 ± 1.2  98.1 ± 1.5
    shared_gap_same_max         93.8 ± 3.5  93.5 ± 2.6   92.4 ± 2.6  52.6 ± 6.0
    shared_flatten_same_max     19.3 ± 6.1  60.1 ± 3.2   46.6 ± 4.6  23.4 ± 5.2
    tiled_gmp_same_max          91.2 ± 2.4  90.8 ± 1.3   87.8 ± 1.6  42.9 ± 1.7
    low_rank_gmp_same_max       97.2 ± 1.3  97.3 ± 0.5   96.8 ± 0.2  59.3 ± 5.8
    local_gmp_same_max          10.2 ± 1.7  47.5 ± 0.5   34.3 ± 2.5  17.3 ± 4.4
    dense_gmp_same_max          11.5 ± 1.3  51.8 ± 0.5   39.6 ± 1.9  22.7 ± 3.2

Full MNIST (42 minutes on two cores) and Fashion-MNIST (38 minutes), 28 x 28 on a 40 x 40 canvas, 3 seeds, 8 and 16 maps, 2 epochs, in %.
Flatten, local and dense lose 49 to 66 points between positions of training and new ones; shared filters under a maximum or a mean lose
none. Mixtures, which lose nothing on digits, lose 9 and 35: what position is worth to them here, they learn. A stride costs as much at old
positions as at new ones, and consistency, which adaptive sampling makes nearly whole. VALID padding hardly matters where images nearly fill
the canvas.

    arm                        MNIST, test       unseen  consistency  Fashion, test       unseen  consistency
    ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    shared_gmp_same_max         89.8 ± 1.3   89.5 ± 2.5   92.5 ± 3.7     75.1 ± 4.6   74.1 ± 6.4   86.5 ± 3.6
    shared_gmp_same_stride      79.2 ± 6.9   79.0 ± 7.8   75.1 ± 6.3     66.0 ± 2.0   66.1 ± 3.8   71.8 ± 1.3
    shared_gmp_same_blur        91.9 ± 4.2   91.7 ± 3.8   93.7 ± 3.8     76.7 ± 5.6   76.3 ± 5.9   88.4 ± 0.9
    shared_gmp_same_polyphase   89.9 ± 5.2   89.9 ± 5.2  100.0 ± 0.1     74.2 ± 2.9   73.7 ± 3.9   94.4 ± 2.9
    shared_gmp_valid_max        90.2 ± 1.2   89.1 ± 1.6   91.4 ± 1.5     73.7 ± 3.6  68.4 ± 16.5  80.6 ± 11.1
    shared_gmp_circular_max     90.2 ± 2.3   89.7 ± 2.9   92.6 ± 4.1     74.5 ± 4.9   74.4 ± 5.0   88.1 ± 1.0
    shared_gap_same_max         83.4 ± 8.0   83.2 ± 8.6   87.5 ± 6.2     70.6 ± 3.3   70.7 ± 2.3   87.3 ± 3.0
    shared_flatten_same_max     96.7 ± 0.2   41.8 ± 8.8   59.3 ± 6.6     85.2 ± 0.4   24.5 ± 7.7   50.0 ± 1.0
    tiled_gmp_same_max          82.8 ± 1.6   82.8 ± 2.3   80.9 ± 0.9     66.3 ± 6.5   65.9 ± 5.2   72.9 ± 6.4
    low_rank_gmp_same_max       92.2 ± 3.2  83.4 ± 11.4  85.6 ± 11.3     77.9 ± 1.7  42.6 ± 17.1   58.4 ± 8.0
    local_gmp_same_max          86.3 ± 0.4   24.5 ± 2.5   40.3 ± 2.6     71.9 ± 0.9   23.3 ± 1.2   47.1 ± 3.6
    dense_gmp_same_max          95.4 ± 0.3   29.9 ± 2.6   49.5 ± 6.1     79.7 ± 0.7   24.8 ± 4.6   51.8 ± 5.2

All combinations on digits, one seed, 13 minutes (`--arms=all --seeds=1`): sharing and head make two thirds of all differences, and what
one of them adds depends on the other. Adaptive polyphase sampling, which adds nothing to the base, adds 9 points on average, and up to
39.

    unseen accuracy (%) by level, and what it adds to the first level, over all combinations of the other factors
    factor            level  networks  mean   adds  lowest to highest
    ─────────────────────────────────────────────────────────────────
    sharing          shared        36  66.1      –                  –
    sharing           tiled        36  46.1  -20.0      -56.1 to +0.3
    sharing        low_rank        36  62.7   -3.4      -14.4 to +6.1
    sharing           local        36  10.9  -55.2      -89.4 to +0.0
    head                gmp        48  60.4      –                  –
    head                gap        48  56.3   -4.0      -20.3 to +3.9
    head            flatten        48  22.6  -37.8      -81.9 to +3.6
    padding            same        48  50.6      –                  –
    padding           valid        48  36.4  -14.2     -51.1 to +12.5
    padding        circular        48  52.3   +1.8     -10.3 to +16.1
    downsampling        max        36  47.2      –                  –
    downsampling     stride        36  33.7  -13.5     -62.8 to +15.6
    downsampling       blur        36  48.3   +1.1     -21.9 to +36.1
    downsampling  polyphase        36  56.4   +9.2      -4.4 to +38.9

    share (%) of the variance of unseen accuracy between 144 combinations
    what                                 share
    ──────────────────────────────────────────
    sharing                               41.7
    head                                  25.0
    padding                                4.4
    downsampling                           5.8
    sharing x head                         8.8
    sharing x padding                      1.9
    sharing x downsampling                 3.1
    head x padding                         2.0
    head x downsampling                    0.7
    padding x downsampling                 1.9
    three and four together, and chance    4.6
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
        epochs=2, canvas=(40, 40), train_positions='left', unseen_positions='right',
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
