"""The generated tasks of `sample_efficiency`: their models and sizes, and what theory claims of them."""

from collections.abc import Callable

from cnn_research import norm_learners, signal_learners
from experiments.searches import Study

SIGNAL_LINES = {'patches': ((8, 16), (16, 16), (24, 16), (32, 16)), 'dimension': ((16, 8), (16, 16), (16, 24), (16, 32))}
QUICK_SIGNAL_LINES = {'patches': ((4, 8), (8, 8), (12, 8)), 'dimension': ((8, 4), (8, 8), (8, 12))}
SIDES, QUICK_SIDES = (3, 4, 5, 6), (3, 4, 5)
# What theory claims of the dynamic signal, without its constants (Lahoti et al. 2024, table 1): (patches k, dimension d) to examples.
SIGNAL_CLAIMS: dict[str, dict[str, Callable[..., float]]] = {
    'shared': {'k + d': lambda k, d: k + d},
    'local': {'k d': lambda k, d: k * d, 'k (k + d)': lambda k, d: k * (k + d)},
    'dense': {'k^2 d': lambda k, d: k * k * d},
}
# And of the norm comparison (Li, Zhang and Arora 2021): (side,) to examples. D = 2 side^2.
NORM_CLAIMS: dict[str, dict[str, Callable[..., float]]] = {
    'conv_quadratic_sgd': {'1': lambda side: 1.0},
    'conv_relu_sgd': {'1': lambda side: 1.0},
    'dense_quadratic_sgd': {'D^2': lambda side: 4.0 * side**4},
    'dense_relu_sgd': {'D^2': lambda side: 4.0 * side**4},
}


def signal(task: str, sigma: float, quick: bool) -> Study:
    """A signal in one of some patches."""
    lines = QUICK_SIGNAL_LINES if quick else SIGNAL_LINES
    (fixed_dimension,), (fixed_patches,) = ({size[1 - i] for size in line} for i, line in enumerate(lines.values()))
    axes = {'patches': f'patches of dimension {fixed_dimension}', 'dimension': f'dimension of {fixed_patches} patches'}
    return Study(
        models=signal_learners.MODELS,
        learner=lambda model, size: signal_learners.Learning(task, model, size[0], size[1], sigma),
        columns=('patches', 'dimension'),
        lines={axes[axis]: sizes for axis, sizes in lines.items()},
        along=lambda axis, size: size[axis == axes['dimension']],
        ratios=(('local', 'shared'), ('dense', 'local')),
        claims=SIGNAL_CLAIMS if task == 'dynamic_signal' else {},
    )


def norm(task: str, quick: bool) -> Study:
    """Two channels of some side, of normal noise or of images."""
    return Study(
        models=norm_learners.MODELS,
        learner=lambda model, size: norm_learners.Comparing(task, model, size[0]),
        columns=('side',),
        lines={'inputs': tuple((side,) for side in (QUICK_SIDES if quick else SIDES))},
        along=lambda axis, size: 2 * size[0] ** 2,
        ratios=(('dense_quadratic_sgd', 'conv_quadratic_sgd'), ('dense_relu_sgd', 'conv_relu_sgd')),
        claims=NORM_CLAIMS if task == 'norm_comparison' else {},
    )
