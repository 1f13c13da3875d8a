"""Does a filter that is shared over all positions find at new positions what it learned at old ones?"""

from cnn_research import ablation, config
from experiments import runner

EXPERIMENT = ablation.Experiment(
    name='weight_sharing',
    question='What do shared filters buy over one filter per position and over dense layers, and what does the head do to it?',
    arms={
        'conv_flatten': lambda m: m.with_sharing('shared'),
        'conv_gmp': ablation.change(head='gmp'),
        'local_flatten': lambda m: m.with_sharing('local'),
        'local_gmp': lambda m: ablation.change(head='gmp')(m.with_sharing('local')),
        'dense_flatten': lambda m: m.with_sharing('dense'),
        'dense_gmp': lambda m: ablation.change(head='gmp')(m.with_sharing('dense')),
    },
    small=runner.digits(config.ModelConfig(features=(16, 32), head='flatten')),
    full=runner.full(config.ModelConfig(features=(8, 16), head='flatten'), learning_rate=1e-2),
)

if __name__ == '__main__':
    runner.main(EXPERIMENT, __doc__)
