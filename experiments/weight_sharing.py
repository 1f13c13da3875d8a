"""Does a filter that is shared over all positions find at new positions what it learned at old ones?

    python -m experiments.weight_sharing                                       digits, 5 seeds: 2 minutes on 2 cores
    python -m experiments.weight_sharing --dataset=fashion_mnist --seeds=3     25 minutes on 2 cores

Six networks with the same maps, pools and depth: the filter is shared by all positions (conv), each position has its own (local), or
every pixel has a weight to every unit (dense); the head keeps the positions (flatten) or takes the maximum over them (gmp).

Digits on a 16 x 16 canvas, trained with their left edge in columns 0 to 3, tested there and in columns 5 to 8 (unseen), 95 % t intervals:
transfer needs sharing and the maximum together. Sharing under a flatten head reads 20 % at new positions, twice chance; local and dense
maps read at chance under either head. At the old positions the dense arms come within 2 points of the convolutions, with 300 to
600 times the weights.

    arm            n    weights       MACs  test accuracy        unseen  difference            to   train  seconds
    ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
    conv_flatten   5      9,930    336,896   97.3 % ± 1.3  20.3 % ± 6.4     –                      97.6 %      4.4
    conv_gmp       5      5,130    332,096   97.2 % ± 1.2  98.1 % ± 0.3  -0.2 ± 2.0  conv_flatten  98.0 %      3.7
    local_flatten  5    336,954    336,896   94.4 % ± 1.0  11.8 % ± 0.9  -2.9 ± 1.5  conv_flatten  94.5 %      5.9
    local_gmp      5    332,154    332,096   88.6 % ± 1.6  10.3 % ± 1.3  -8.6 ± 2.3      conv_gmp  88.2 %      5.4
    dense_flatten  5  3,150,906  3,150,848   95.7 % ± 0.7  11.2 % ± 1.9  -1.6 ± 1.2  conv_flatten  95.2 %     16.0
    dense_gmp      5  3,146,106  3,146,048   96.8 % ± 0.6  11.1 % ± 0.9  -0.4 ± 1.2      conv_gmp  95.7 %     14.0

Full Fashion-MNIST at its own size, 3 seeds: where every position has been seen, sharing buys weights, not accuracy. One filter per position
reads as well as the shared one (+0.4 ± 1.1 points) with 32 times the weights; dense maps cost 1.6 ± 1.2 points with 1,100 times the
weights, at the common rate of 0.01, which suits the convolution better; at 0.003 they cost 0.2 ± 0.6 (`experiments.relaxation`). Under a
global maximum the shared filters lose 8 points, for their head is told what was seen but not where; local and dense maps, which can tell
the position by the channel, lose less. The maximum is taken over units that see 8 x 8 of 28 x 28 pixels: this is no verdict on deeper
networks.

    arm            n    weights       MACs  test accuracy  difference            to   train  seconds
    ────────────────────────────────────────────────────────────────────────────────────────────────
    conv_flatten   3      9,098    290,080   90.4 % ± 0.7     –                      93.6 %     53.3
    conv_gmp       3      1,418    282,400   82.4 % ± 1.8  -8.1 ± 1.1  conv_flatten  83.6 %     48.0
    local_flatten  3    290,114    290,080   90.9 % ± 0.4  +0.4 ± 1.1  conv_flatten  96.3 %     73.4
    local_gmp      3    282,434    282,400   87.7 % ± 0.3  +5.3 ± 1.8      conv_gmp  90.8 %     70.3
    dense_flatten  3  9,842,370  9,842,336   88.8 % ± 0.5  -1.6 ± 1.2  conv_flatten  92.2 %    370.1
    dense_gmp      3  9,834,690  9,834,656   88.5 % ± 0.1  +6.1 ± 1.9      conv_gmp  91.5 %    375.4
"""

import dataclasses

from cnn_research import ablation, config
from experiments import runner


def arm(scheme: str, head: str) -> ablation.Change:
    """This sharing in every stage, and this head."""
    return lambda model: dataclasses.replace(model.with_sharing(scheme), head=head)


EXPERIMENT = ablation.Experiment(
    name='weight_sharing',
    question='What do shared filters buy over one filter per position and over dense layers, and what does the head do to it?',
    arms={
        'conv_flatten': arm('shared', 'flatten'),
        'conv_gmp': arm('shared', 'gmp'),
        'local_flatten': arm('local', 'flatten'),
        'local_gmp': arm('local', 'gmp'),
        'dense_flatten': arm('dense', 'flatten'),
        'dense_gmp': arm('dense', 'gmp'),
    },
    compared_with={
        'conv_gmp': 'conv_flatten',
        **{f'{scheme}_{head}': f'conv_{head}' for scheme in ('local', 'dense') for head in ('flatten', 'gmp')},
    },
    small=runner.digits(config.ModelConfig(features=(16, 32), head='flatten')),
    full=runner.full(config.ModelConfig(features=(8, 16), head='flatten')),
)

if __name__ == '__main__':
    runner.main(EXPERIMENT, __doc__)
