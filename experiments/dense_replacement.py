"""Which convolution may be replaced by a dense layer, at equal maps and at equal weights?"""

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
