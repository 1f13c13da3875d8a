"""Which convolution may be replaced by a dense layer, at equal maps and at equal weights?

    python -m experiments.dense_replacement                                    digits, 5 seeds: 1.8 minutes on 2 cores
    python -m experiments.dense_replacement --dataset=fashion_mnist --seeds=3  49 minutes on 2 cores

From a network of two convolutions: a dense layer that makes the maps of the first stage, of the last, or of both; convolutions with a
wide hidden layer and dense maps of fewer features, both with as many weights as `dense_first`; plain perceptrons, one of them with as many
weights as `conv`; and the other way round, a hidden dense layer against a 1 x 1 convolution and the mean (Lin et al. 2014).

Full Fashion-MNIST, 3 seeds, 95 % t intervals: the last rather than the first. A dense first stage costs 1.4 points, dense stages throughout
1.6, with 500 and 1000 times the weights, at the common rate of 0.01. Part of that is the rate: at 0.003 `conv` and `dense_all` differ by no
more than 0.2 ± 0.5 (`experiments.relaxation`). A dense last stage gains a point, but so do as many weights in a hidden layer after two
convolutions. A 1 x 1 convolution and the mean, with 1 / 17 of the hidden layer's weights, falls 5.7 points behind it in the same 8 epochs;
its training accuracy says that it has not learned enough yet, not that it has learned by heart.

    arm                n    weights       MACs  test accuracy  difference           to   train  seconds
    ───────────────────────────────────────────────────────────────────────────────────────────────────
    conv               3      9,098    290,080   90.4 % ± 0.7     –                     93.6 %     60.1
    dense_first        3  4,926,274  5,150,880   89.0 % ± 0.3  -1.4 ± 0.7         conv  92.1 %    181.5
    dense_last         3  4,925,194  4,981,536   91.5 % ± 0.3  +1.1 ± 1.0         conv  99.6 %    297.4
    dense_all          3  9,842,370  9,842,336   88.8 % ± 0.5  -1.6 ± 1.2         conv  92.2 %    638.3
    conv_matched       3  4,926,283  5,201,070   91.4 % ± 0.1  +2.4 ± 0.4  dense_first  99.7 %    351.2
    dense_all_matched  3  4,925,118  4,925,088   88.6 % ± 0.6  -0.4 ± 0.8  dense_first  91.6 %    279.6
    mlp                3    269,322    268,800   88.7 % ± 0.4  -1.8 ± 1.1         conv  91.4 %     19.5
    mlp_matched        3      9,107      9,065   85.7 % ± 1.2  -4.7 ± 1.6         conv  88.1 %      5.5
    hidden_head        3     52,138    333,056   91.2 % ± 1.4  +0.7 ± 0.7         conv  96.0 %     62.0
    pointwise_gap      3      2,986    333,056   85.5 % ± 1.1  -5.7 ± 0.4  hidden_head  86.4 %     66.9

Digits on a 16 x 16 canvas, left edge in columns 0 to 3 (trained) and 5 to 8 (unseen): only the mean over positions transfers.

    arm                n    weights       MACs  test accuracy        unseen   difference           to   train  seconds
    ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────
    conv               5      3,818     94,720   94.2 % ± 3.1  21.5 % ± 3.0      –                     94.2 %      1.6
    dense_first        5    528,034    600,576   95.4 % ± 0.2  12.8 % ± 1.4   +1.3 ± 2.9         conv  95.2 %      4.3
    dense_last         5    526,954    545,280   97.3 % ± 1.1  12.3 % ± 2.1   +3.1 ± 4.1         conv  97.7 %      4.7
    dense_all          5  1,051,170  1,051,136   96.0 % ± 0.6  12.3 % ± 1.7   +1.8 ± 3.6         conv  95.9 %      5.2
    conv_matched       5    528,049    616,978   97.0 % ± 1.1  27.2 % ± 8.7   +1.6 ± 1.1  dense_first  97.9 %      5.4
    dense_all_matched  5    526,878    526,848   96.1 % ± 0.4  11.8 % ± 1.5   +0.7 ± 0.4  dense_first  95.4 %      3.7
    mlp                5    134,154    133,632   95.3 % ± 0.6  11.6 % ± 2.4   +1.1 ± 2.6         conv  94.4 %      1.3
    mlp_matched        5      3,807      3,765   49.2 % ± 4.0  11.3 % ± 3.1  -44.9 ± 5.0         conv  47.2 %      2.0
    hidden_head        5     18,346    109,184   95.4 % ± 1.1  23.6 % ± 5.4   +1.3 ± 3.0         conv  95.4 %      4.1
    pointwise_gap      5      2,986    109,184   91.1 % ± 2.6  89.5 % ± 2.5   -4.4 ± 1.7  hidden_head  91.1 %      4.2

On the 3,072 inputs of CIFAR-10, `mlp_matched` is left with a bottleneck of 3 units: no wider pair of layers has as few weights as `conv`.
"""

import dataclasses

from cnn_research import ablation, config
from experiments import runner

HIDDEN = 64


def pointwise_head(model: config.ModelConfig) -> config.ModelConfig:
    """The hidden dense layer as a 1 x 1 convolution of the same width, then the mean over positions (Lin et al. 2014)."""
    return dataclasses.replace(
        model,
        features=(*model.features, HIDDEN),
        kernel_sizes=(*model.kernel_sizes, 1),
        strides=(*model.strides, 1),
        pools=(*model.pools, 1),
        sharing=(*model.sharing, 'shared'),
        head='gap',
    )


def perceptron(*hidden: int) -> ablation.Change:
    """A plain multilayer perceptron: no stages, only hidden dense layers."""
    return ablation.change(features=(), kernel_sizes=(), strides=(), pools=(), sharing=(), head='flatten', hidden=hidden)


EXPERIMENT = ablation.Experiment(
    name='dense_replacement',
    question='Which convolution may be replaced by a dense layer, at equal maps and at equal weights?',
    arms={
        'conv': lambda m: m,
        # the same maps, made by a dense layer
        'dense_first': lambda m: m.with_sharing('dense', 0),
        'dense_last': lambda m: m.with_sharing('dense', -1),
        'dense_all': lambda m: m.with_sharing('dense'),
        # as many weights as dense_first (and, on grey images, dense_last)
        'conv_matched': ablation.Matched(ablation.change(hidden=(HIDDEN,)), as_arm='dense_first', field='hidden'),
        'dense_all_matched': ablation.Matched(lambda m: m.with_sharing('dense'), as_arm='dense_first', field='features'),
        # no maps at all: a usual width, and as many weights as conv
        'mlp': perceptron(256, 256),
        'mlp_matched': ablation.Matched(perceptron(16, 16), as_arm='conv', field='hidden'),
        # the other way round: a hidden dense layer against a 1 x 1 convolution and the mean
        'hidden_head': ablation.change(hidden=(HIDDEN,)),
        'pointwise_gap': pointwise_head,
    },
    compared_with={
        **dict.fromkeys(('dense_first', 'dense_last', 'dense_all', 'mlp', 'mlp_matched', 'hidden_head'), 'conv'),
        **dict.fromkeys(('conv_matched', 'dense_all_matched'), 'dense_first'),
        'pointwise_gap': 'hidden_head',
    },
    # 8 and 16 maps, so that on grey images a dense first and a dense last stage have the same number of weights.
    small=runner.digits(config.ModelConfig(features=(8, 16), head='flatten')),
    full=runner.full(config.ModelConfig(features=(8, 16), head='flatten')),
)

if __name__ == '__main__':
    runner.main(EXPERIMENT, __doc__)
