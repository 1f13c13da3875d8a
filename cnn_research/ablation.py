"""An ablation: a question, a base configuration, and a table of arms that each change the model in the studied way (imports no jax)."""

import dataclasses
import fractions
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from cnn_research import config, cost, errors

Change = Callable[[config.ModelConfig], config.ModelConfig]
MODEL_FIELDS = tuple(field.name for field in dataclasses.fields(config.ModelConfig))
_NEAR = 0.02  # how far a matched count may be off
_MOVES = 9  # how many scales are tried for it
RATES = (1e-3, 3e-3, 1e-2, 3e-2)  # the learning rates that are tried on validation data


class Matched(NamedTuple):
    """An arm that is `change`, its widths solved so that it has as many weights as another arm (`by` 'macs': as many multiply-adds).

    `field` says which widths: `hidden` (units of the hidden dense layers) or `features` (maps of the stages); the change must set or
    inherit at least one of them. All are scaled by one factor, then the last takes up what is left.
    """

    change: Change
    as_arm: str
    field: str
    by: str = 'weights'


class Varied(NamedTuple):
    """An arm that is `change` of the model, and then `also` of the whole configuration, its data and training."""

    change: Change
    also: Callable[[config.Config], config.Config]


class Relaxed(NamedTuple):
    """An arm that is `change` until this share of the epochs is over, and then freed into the scheme `to` in every stage."""

    change: Change
    share: float
    to: str

    def epoch(self, epochs: int) -> int:
        """The first epoch (from 0) of the freed network. Raises InputError where the share is no whole number of epochs."""
        share = fractions.Fraction(self.share)
        if epochs % share.denominator:
            raise errors.InputError(f'{share} of {epochs} epochs is no whole number: give --epochs a multiple of {share.denominator}')
        return int(share * epochs)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A named ablation. `small` is the base on its own (embedded) data set, `full` that on every other (None: it is about its own alone).

    `compared_with` names for an arm the one that it answers to: its table shows their difference in `measure` (a key of a row), paired by
    seed. `owns` names the fields that every arm sets itself, so that a base with another value would say nothing. `default` are the arms
    that run unless others are asked for (None: all), `seeds` how many seeds.
    """

    name: str
    question: str
    arms: Mapping[str, Change | Matched | Varied | Relaxed]
    compared_with: Mapping[str, str]
    small: config.Config
    full: config.Config | None = None
    measure: str = 'test_accuracy'
    owns: tuple[str, ...] = ()
    default: tuple[str, ...] | None = None
    seeds: int = 5

    def base(self, dataset: str) -> config.Config:
        """The base configuration for a data set. Raises InputError where the experiment is about its own alone."""
        own = self.small.data.dataset
        if dataset == own:
            return self.small
        if self.full is None and dataset.partition('/')[0] != own:
            raise errors.InputError(f'{self.name} is about {own} alone, not about {dataset}: leave --dataset out')
        base = self.full or self.small
        return dataclasses.replace(base, data=dataclasses.replace(base.data, dataset=dataset))

    def resolve(
        self, base: config.Config, seen: Callable[[config.DataConfig], tuple[cost.Shape, int]], only: Collection[str] | None = None
    ) -> dict[str, config.Config]:
        """The whole configuration of every arm, or of those in `only`. `seen` says what data is: images (H, W, C), number of classes.

        Raises:
          InputError: arms that do not fit the images (a kernel larger than its input, say), which are named.
        """
        configs: dict[str, config.Config] = {}
        wanted = set(self.arms if only is None else only)
        wanted |= {arm.as_arm for name, arm in self.arms.items() if name in wanted and isinstance(arm, Matched)}

        def resolved(name: str) -> None:
            arm = self.arms[name]
            if isinstance(arm, Matched) and arm.as_arm not in configs:
                return  # it will be as an arm that does not fit, which is said of that one
            c = self._resolved(arm, base, configs, seen)
            for model in (c.model, c.final_model):
                cost.layers(model, *seen(c.data))
            configs[name] = c

        errors.of_each('arm', [name for name in self.arms if name in wanted], resolved)
        return {name: c for name, c in configs.items() if only is None or name in only}

    @staticmethod
    def _resolved(
        arm: Change | Matched | Varied | Relaxed,
        base: config.Config,
        before: Mapping[str, config.Config],
        seen: Callable[[config.DataConfig], tuple[cost.Shape, int]],
    ) -> config.Config:
        """The configuration of one arm; those that others are matched to come `before` them."""
        model = arm.change(base.model) if isinstance(arm, Matched | Varied | Relaxed) else arm(base.model)
        if isinstance(arm, Matched):
            image, classes = seen(base.data)
            target = getattr(cost.total(before[arm.as_arm].model, image, classes), arm.by)
            model = match(model, arm.field, target, image, classes, arm.by)
        c = dataclasses.replace(base, model=model)
        if isinstance(arm, Varied):
            return arm.also(c)
        if isinstance(arm, Relaxed):
            return dataclasses.replace(c, train=dataclasses.replace(c.train, relax_epoch=arm.epoch(c.train.epochs), relax_to=arm.to))
        return c


def change(**fields) -> Change:
    """The change that sets these fields of the model."""
    return lambda model: dataclasses.replace(model, **fields)


def match(
    model: config.ModelConfig, field: str, target: int, image: cost.Shape, num_classes: int, by: str = 'weights'
) -> config.ModelConfig:
    """The model with the widths in `field` scaled by one factor, the last of them then tuned, to come within 2 % of `target`.

    by: what is to come near it, 'weights' or 'macs'.

    Raises:
      InputError: no widths near the base's proportions do.
    """

    def counted(widths):
        return getattr(cost.total(_with(model, field, widths), image, num_classes), by)

    def largest(make):  # the largest s that costs at most `target` (the count grows with s), 0 if there is none
        low, high = 0, 1
        while counted(make(high)) <= target:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if counted(make(middle)) <= target else (low, middle)
        return low

    def with_last(scaled):  # the last width that comes nearest the target behind the others as they are
        last = largest(lambda width: (*scaled[:-1], width))
        return min(((*scaled[:-1], max(1, last + more)) for more in (0, 1)), key=distance)

    def distance(widths):
        return abs(counted(widths) - target)

    shape = getattr(model, field)
    s = max(1, largest(lambda s: _scaled(shape, s)))
    # Small widths have large steps: where the last one cannot make up for them, the others move away from the base's proportions.
    moved = sorted(range(max(1, s - s // 2), s + s // 2 + 1), key=lambda other: abs(other - s)) if len(shape) > 1 else [s]
    solutions = [with_last(_scaled(shape, other)) for other in moved[:_MOVES]]
    best = next((w for w in solutions if distance(w) <= _NEAR * target), min(solutions, key=distance))
    if distance(best) > _NEAR * target:
        raise errors.InputError(f'no {field} within {_NEAR:.0%} of {target:,} {by}, nearest is {best} with {counted(best):,}: widen it')
    return _with(model, field, best)


def _with(model: config.ModelConfig, field: str, widths: tuple[int, ...]) -> config.ModelConfig:
    return dataclasses.replace(model, **{field: widths})  # type: ignore[arg-type]


def _scaled(shape: tuple[int, ...], s: int) -> tuple[int, ...]:
    """Widths in the proportions of `shape`, the smallest of them being s."""
    return tuple(max(1, round(s * width / min(shape))) for width in shape)


def validation_scores(rows: Iterable[Mapping[str, Any]], arms: Iterable[str], seeds: int) -> dict[str, dict[float, float]]:
    """Mean validation accuracy by arm and learning rate, for the arms that tried all `RATES` on so many tuning seeds.

    rows: as in results.jsonl, of any purpose. A run that did not end counts as zero.
    """
    found: dict[str, dict[float, list[float]]] = {arm: {rate: [] for rate in RATES} for arm in arms}
    for row in rows:
        if row['purpose'] == 'tune' and row['learning_rate'] in found.get(row['arm'], ()):
            found[row['arm']][row['learning_rate']].append(row['validation_accuracy'] or 0.0)
    whole = {arm: rates for arm, rates in found.items() if all(len(scores) == seeds for scores in rates.values())}
    return {arm: {rate: statistics.fmean(scores) for rate, scores in rates.items()} for arm, rates in whole.items()}


def best_rates(scores: Mapping[str, Mapping[float, float]]) -> dict[str, float]:
    """The learning rate with the best validation accuracy for every arm in `validation_scores`; the lower one of equals."""
    return {arm: max(sorted(rates), key=lambda rate, rates=rates: rates[rate]) for arm, rates in scores.items()}  # type: ignore[misc]
