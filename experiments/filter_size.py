"""How large should a filter be, and do stacks of 3 x 3 replace larger ones?

    python -m experiments.filter_size                                                digits, 5 seeds: @FS_DIGITS_COST on 2 cores
    python -m experiments.filter_size --dataset=fashion_mnist --seeds=3              45 minutes on 2 cores

Two stages of shared filters k x k, or every stage as a stack of two or three 3 x 3 stages, which see 5 x 5 and 7 x 7.

Full Fashion-MNIST, with 95 % t intervals: from 2 x 2 to 5 x 5 the size of a filter hardly matters, and beyond it costs accuracy, weights
and time. Stacks do replace larger filters, and better: two 3 x 3 with ReLU between them beat one 5 x 5 by 0.7 points, three beat one
7 x 7 by 1.2, at about the same number of weights (Simonyan and Zisserman 2015, section 2.3, say so of ImageNet).

    arm        n  weights       MACs  test accuracy     less k3   train  seconds
    ────────────────────────────────────────────────────────────────────────────
    k1         3   16,266    128,576   84.8 % ± 3.2  -6.4 ± 3.7  86.2 %     23.7
    k2         3   17,850    467,264   91.0 % ± 0.5  -0.2 ± 0.9  94.9 %     52.0
    k3         3   20,490  1,031,744   91.2 % ± 0.5     –        95.8 %     75.3
    k5         3   28,938  2,838,080   91.4 % ± 0.4  +0.2 ± 0.6  96.7 %    128.0
    k7         3   41,610  5,547,584   90.9 % ± 0.3  -0.3 ± 0.5  96.9 %    214.2
    k9         3   58,506  9,160,256   90.7 % ± 0.5  -0.5 ± 0.4  97.0 %    408.7
    k3_stack2  3   32,058  4,644,416   92.1 % ± 0.5  +0.9 ± 0.8  97.3 %    271.9
    k3_stack3  3   43,626  8,257,088   92.1 % ± 0.5  +0.9 ± 0.7  97.0 %    618.1

@FS_DIGITS
"""

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
    small=runner.digits(config.ModelConfig(features=(8, 16), head='gmp'), canvas=(18, 18)),
    full=runner.full(config.ModelConfig(features=(16, 32), head='flatten')),
)

if __name__ == '__main__':
    runner.main(EXPERIMENT, __doc__)
