"""How large should a filter be, and do stacks of 3 x 3 replace larger ones?"""

from cnn_research import ablation, config
from experiments import runner

EXPERIMENT = ablation.Experiment(
    name='filter_size',
    question='How does accuracy depend on the filter size, and do stacks of 3 x 3 replace one 5 x 5 or 7 x 7?',
    arms={
        'k1': lambda m: m.with_kernel_size(1),
        'k2': lambda m: m.with_kernel_size(2),
        'k3': lambda m: m.with_kernel_size(3),
        'k5': lambda m: m.with_kernel_size(5),
        'k7': lambda m: m.with_kernel_size(7),
        'k9': lambda m: m.with_kernel_size(9),
        'k3_stack2': lambda m: m.with_kernel_size(3).stacked(2),  # sees 5 x 5
        'k3_stack3': lambda m: m.with_kernel_size(3).stacked(3),  # sees 7 x 7
    },
    reference='k3',
    # 18 x 18, so that the second stage still sees 9 x 9.
    small=runner.digits(config.ModelConfig(features=(8, 16), head='gmp'), canvas=(18, 18), learning_rate=3e-2),
    full=runner.full(config.ModelConfig(features=(16, 32), head='flatten')),
)

if __name__ == '__main__':
    runner.main(EXPERIMENT, __doc__)
