"""How much sharing does a network need, between one filter for all positions and a weight for every pair of pixels?

    python -m experiments.sharing_axis                                         digits, 5 seeds: 2.9 minutes on 2 cores
    python -m experiments.sharing_axis --dataset=fashion_mnist --seeds=3       52 minutes on 2 cores

One network under a global maximum, so that the filters alone can tell a position. From full sharing to none: one filter (conv),
filters that repeat every 2 and every 4 rows and columns (Le et al. 2010), mixtures of 4 filters (Elsayed et al. 2020), one filter per
position, and dense maps. Besides: filters of every position that are set to their mean every 10 steps (sharing in time, Pogodin et al.
2021), and coordinates as two more channels (Liu et al. 2018). Two controls are convolutions as wide as low_rank has weights, and
multiplications: what they gain was not the loss of sharing.

Digits on a 16 x 16 canvas, trained with their left edge in columns 0 to 3, tested there and in columns 5 to 8 (unseen), 95 % t intervals:
nothing beats the one shared filter for its weights. Filters that repeat every 2 positions read 2 points worse, for each learns from a
quarter of the examples, and still transfer; every 4, hardly; one per position, not at all. Mixtures of 4 filters start as one filter at
every position and stay nearly that (of the first seed's squared weights, 98 % lie in the nearest convolution:
`projection.model_convness`); a plain convolution with as many weights reads a point better. Sharing in time transfers too, but learns
more slowly: a kernel moves by the mean of its positions' steps, not by their sum. At a rate of 0.01, which suits them better, dense
maps read 96.8 ± 0.6 % where they were trained, with 600 times the weights.

    arm                   n    weights       MACs  test accuracy        unseen  difference        to    train  seconds
    ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────
    conv                  5      5,130    332,096   98.1 % ± 0.8  97.8 % ± 1.1     –                   99.3 %      1.8
    coordinates           5      5,994    332,096   97.7 % ± 1.0  96.8 % ± 2.6  -0.3 ± 0.7      conv   99.0 %      4.2
    tiled_2               5     19,386    332,096   95.8 % ± 1.3  94.7 % ± 0.6  -2.3 ± 1.3      conv   96.0 %      4.5
    tiled_4               5     76,410    332,096   91.6 % ± 2.4  36.5 % ± 3.2  -6.4 ± 2.2      conv   90.5 %      5.0
    low_rank              5     20,666  1,352,000   97.9 % ± 0.3  97.2 % ± 0.3  -0.1 ± 1.1      conv   99.5 %      8.3
    conv_as_many_weights  5     20,662  1,327,784   99.1 % ± 0.4  98.9 % ± 0.5  +1.1 ± 0.3  low_rank   99.9 %      4.9
    conv_as_many_macs     5     20,976  1,350,238   98.8 % ± 0.6  99.1 % ± 0.4  +0.8 ± 0.6  low_rank  100.0 %      8.4
    averaged              5    332,154    332,096   93.4 % ± 3.2  92.6 % ± 2.7  -4.6 ± 2.5      conv   91.8 %      5.5
    local                 5    332,154    332,096   92.4 % ± 2.2  10.9 % ± 1.0  -5.7 ± 2.1      conv   92.2 %      3.8
    dense                 5  3,146,106  3,146,048   91.7 % ± 1.6  11.4 % ± 0.7  -6.3 ± 1.9      conv   90.6 %     13.6

Full Fashion-MNIST at its own size, 3 seeds, so every position was seen: what less sharing gains, width gains for less. One filter per
position reads 4.4 points better than one for all in the same 8 and 16 maps, but a plain convolution of 21 and 44 maps does as well with a
thirtieth of the weights (and six times the multiplications). The same convolution beats mixtures of 4 filters with as many weights by 1.0
points; from one with as many multiplications and two thirds of the weights they differ by less than 2 points either way. Filters that
repeat every 2 or 4 positions are within 1.4 points of the one shared filter, coordinates add 2, and sharing in time has not learned enough
after 8 epochs. The common rate is the best for all arms but dense, for which it is too high: on 10,000 images dense maps are best at 0.001
(`--tune`).

    arm                   n    weights       MACs  test accuracy    difference        to   train  seconds
    ─────────────────────────────────────────────────────────────────────────────────────────────────────
    conv                  3      1,418    282,400  83.6 % ±  1.7      –                   85.2 %     70.5
    coordinates           3      1,850    282,400  85.4 % ±  0.2   +1.8 ±  1.8      conv  86.9 %     74.9
    tiled_2               3      5,090    282,400  83.0 % ±  0.4   -0.6 ±  1.9      conv  84.6 %     98.0
    tiled_4               3     19,778    282,400  85.0 % ±  1.4   +1.4 ±  2.6      conv  87.1 %    110.8
    low_rank              3      9,010  1,166,752  87.4 % ±  0.4   +3.8 ±  1.5      conv  90.2 %    255.3
    conv_as_many_weights  3      9,020  1,778,552  88.4 % ±  0.7   +1.0 ±  0.8  low_rank  91.1 %    312.3
    conv_as_many_macs     3      5,920  1,169,882  87.7 % ±  1.2   +0.2 ±  1.3  low_rank  90.0 %    219.6
    averaged              3    282,434    282,400  71.1 % ±  5.0  -12.5 ±  5.8      conv  71.4 %    109.7
    local                 3    282,434    282,400  88.0 % ±  0.2   +4.4 ±  1.7      conv  91.7 %     98.4
    dense                 3  9,834,690  9,834,656  81.5 % ± 13.8   -2.1 ± 14.8      conv  83.6 %    706.5
"""

from cnn_research import ablation, config
from experiments import runner


def sharing(scheme: str) -> ablation.Change:
    """This scheme in every stage."""
    return lambda model: model.with_sharing(scheme)


EXPERIMENT = ablation.Experiment(
    name='sharing_axis',
    question='How much sharing does a network need, between one filter for all positions and a weight for every pair of pixels?',
    arms={
        'conv': sharing('shared'),
        'coordinates': sharing('coordinates'),
        'tiled_2': sharing('tiled:2x2'),
        'tiled_4': sharing('tiled:4x4'),
        'low_rank': sharing('low_rank:4'),
        'conv_as_many_weights': ablation.Matched(sharing('shared'), as_arm='low_rank', field='features'),
        'conv_as_many_macs': ablation.Matched(sharing('shared'), as_arm='low_rank', field='features', by='macs'),
        'averaged': sharing('averaged:10'),
        'local': sharing('local'),
        'dense': sharing('dense'),
    },
    compared_with={
        **dict.fromkeys(('coordinates', 'tiled_2', 'tiled_4', 'low_rank', 'averaged', 'local', 'dense'), 'conv'),
        **dict.fromkeys(('conv_as_many_weights', 'conv_as_many_macs'), 'low_rank'),
    },
    small=runner.digits(config.ModelConfig(features=(16, 32), head='gmp'), learning_rate=3e-2),
    full=runner.full(config.ModelConfig(features=(8, 16), head='gmp'), learning_rate=3e-2),
)

if __name__ == '__main__':
    runner.main(EXPERIMENT, __doc__)
