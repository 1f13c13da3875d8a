"""Does a filter that is shared over all positions find at new positions what it learned at old ones?

    python -m experiments.weight_sharing                                             digits, 5 seeds: 1.6 minutes on 2 cores
    python -m experiments.weight_sharing --dataset=fashion_mnist --seeds=3           @WS_COST on 2 cores

Six networks with the same maps, pools and depth: the filter is shared by all positions (conv), each position has its own (local), or
every pixel has a weight to every unit (dense); the head keeps the positions (flatten) or takes the maximum over them (gmp).

Digits, trained in columns 0 to 3 of a 16 x 16 canvas and tested there and in columns 5 to 8 (unseen), with 95 % t intervals: sharing and a
head that forgets the position are needed together. Either alone reads at new positions little better than chance (10 %); in the old
positions the dense arms come within 1.5 points of the convolutions, with 300 to 600 times the weights.

    arm            n    weights       MACs  test accuracy        unseen  less conv_gmp   train  seconds
    ───────────────────────────────────────────────────────────────────────────────────────────────────
    conv_flatten   5      9,930    336,896   97.7 % ± 0.9  19.8 % ± 6.4     +0.3 ± 1.3  97.6 %      2.7
    conv_gmp       5      5,130    332,096   97.4 % ± 0.8  97.6 % ± 0.5        –        98.0 %      3.1
    local_flatten  5    336,954    336,896   94.3 % ± 0.8  11.8 % ± 1.1     -3.1 ± 0.5  94.6 %      3.9
    local_gmp      5    332,154    332,096   88.7 % ± 1.5  10.6 % ± 1.4     -8.7 ± 1.7  88.2 %      4.3
    dense_flatten  5  3,150,906  3,150,848   96.2 % ± 1.0  11.2 % ± 2.0     -1.2 ± 1.2  95.3 %     10.8
    dense_gmp      5  3,146,106  3,146,048   96.6 % ± 0.7  11.7 % ± 2.0     -0.8 ± 1.0  95.7 %     10.5

@WS_FASHION
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
