"""How large should a filter be, and do stacks of 3 x 3 replace larger ones?

    python -m experiments.filter_size                                          digits, 5 seeds: 3 minutes on 2 cores
    python -m experiments.filter_size --dataset=fashion_mnist --seeds=3        45 minutes on 2 cores

Two stages of shared filters k x k, or every stage as a stack of two or three 3 x 3 stages, which see 5 x 5 and 7 x 7. Controls: networks of
other filters, as wide as k5 has weights, or multiplications.

Full Fashion-MNIST, 3 seeds, 95 % t intervals: from 2 x 2 to 5 x 5 the size of a filter hardly matters, and larger ones gain nothing for
their weights and time. Stacks do replace larger filters, and better: two 3 x 3 with ReLU between them beat one 5 x 5 by 0.7 points, three
beat one 7 x 7 by 1.1, with 11 % and 5 % more weights. Simonyan and Zisserman (2015, section 2.3) report the same of ImageNet.

    arm        n  weights       MACs  test accuracy  difference  to   train  seconds
    ────────────────────────────────────────────────────────────────────────────────
    k1         3   16,266    128,576   84.8 % ± 3.2  -6.4 ± 3.7  k3  86.2 %     23.7
    k2         3   17,850    467,264   91.0 % ± 0.5  -0.2 ± 0.9  k3  94.9 %     52.0
    k3         3   20,490  1,031,744   91.2 % ± 0.5     –            95.8 %     75.3
    k5         3   28,938  2,838,080   91.4 % ± 0.4  +0.2 ± 0.6  k3  96.7 %    128.0
    k7         3   41,610  5,547,584   90.9 % ± 0.3  -0.3 ± 0.5  k3  96.9 %    214.2
    k9         3   58,506  9,160,256   90.7 % ± 0.5  -0.5 ± 0.4  k3  97.0 %    408.7
    k3_stack2  3   32,058  4,644,416   92.1 % ± 0.5  +0.7 ± 0.3  k5  97.3 %    271.9
    k3_stack3  3   43,626  8,257,088   92.1 % ± 0.5  +1.1 ± 0.8  k7  97.0 %    618.1

Digits on an 18 x 18 canvas under a global maximum, left edge in columns 0 to 4 (trained) and 6 to 10 (unseen): here larger filters read
better where they were trained, and transfer less well. As far as five seeds tell it is the number of weights that helps, not the size: a
wider network of 3 x 3 filters with the weights of k5 reads as well (+0.7 ± 2.0 points) and reads 93.0 ± 2.2 % at new positions, where k5
reads 79.9 ± 18.5. Filters of 1 x 1 see one grey value each and guess, however many.

    arm                 n  weights       MACs  test accuracy         unseen   difference  to   train  seconds
    ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    k1                  5      330     13,120   10.7 % ± 1.6  10.7 % ±  1.5  -83.2 ± 2.2  k3  10.6 %      2.5
    k2                  5      738     52,000   74.1 % ± 7.8  74.4 % ±  7.7  -19.9 ± 8.0  k3  73.5 %      3.8
    k3                  5    1,418    116,800   93.9 % ± 1.5  89.1 % ±  5.4      –            93.5 %      4.5
    k5                  5    3,594    324,160   95.8 % ± 1.8  79.9 % ± 18.5   +1.8 ± 2.1  k3  97.5 %      4.1
    k7                  5    6,858    635,200   96.7 % ± 1.3  75.0 % ± 15.0   +2.8 ± 1.3  k3  98.3 %      4.0
    k9                  5   11,210  1,049,920   97.4 % ± 0.9  69.2 % ± 24.5   +3.5 ± 2.1  k3  98.9 %      5.8
    k3_stack2           5    4,322    490,048   96.7 % ± 1.3  93.4 % ±  6.0   +0.9 ± 2.6  k5  98.7 %      7.3
    k3_stack3           5    7,226    863,296   97.6 % ± 0.6  85.2 % ± 15.3   +0.8 ± 1.2  k7  99.4 %     11.3
    k1_as_many_weights  5    3,607    231,114   10.4 % ± 1.3  10.4 % ±  1.3  -85.3 ± 2.5  k5  10.4 %      4.1
    k3_as_many_weights  5    3,596    294,057   96.4 % ± 0.7  93.0 % ±  2.2   +0.7 ± 2.0  k5  97.8 %      6.0
    k3_as_many_macs     5    3,980    322,518   97.1 % ± 0.9  94.1 % ±  2.4   +1.3 ± 2.6  k5  98.5 %      5.7
    k7_as_many_weights  5    3,588    337,495   95.9 % ± 1.3  64.9 % ± 14.3   +0.1 ± 1.2  k5  96.4 %      3.9
"""

from cnn_research import ablation, config
from experiments import runner


def as_k5(size: int, by: str) -> ablation.Matched:
    """Filters of this size in a network as wide as k5 has weights, or multiplications (`by` 'macs')."""
    return ablation.Matched(lambda m: m.with_kernel_size(size), as_arm='k5', field='features', by=by)


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
        'k1_as_many_weights': as_k5(1, 'weights'),
        'k3_as_many_weights': as_k5(3, 'weights'),
        'k3_as_many_macs': as_k5(3, 'macs'),
        'k7_as_many_weights': as_k5(7, 'weights'),
    },
    compared_with={
        **dict.fromkeys(('k1', 'k2', 'k5', 'k7', 'k9'), 'k3'),
        **dict.fromkeys(('k3_stack2', 'k1_as_many_weights', 'k3_as_many_weights', 'k3_as_many_macs', 'k7_as_many_weights'), 'k5'),
        'k3_stack3': 'k7',
    },
    # 18 x 18, so that the second stage still sees 9 x 9.
    small=runner.digits(config.ModelConfig(features=(8, 16), head='gmp'), canvas=(18, 18)),
    full=runner.full(config.ModelConfig(features=(16, 32), head='flatten')),
)

if __name__ == '__main__':
    runner.main(EXPERIMENT, __doc__)
