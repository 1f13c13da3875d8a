"""From an experiment's table of arms and the command line to a finished sweep with its table and page."""

import contextlib
import dataclasses
import functools
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from absl import flags as absl_flags

from cnn_research import ablation, config, cost, data, errors, files, ledger, problem, sweep
from cnn_research.ablation import RATES
from experiments import flags, launching

T = TypeVar('T')
Opened = Callable[[str], data.Dataset]  # a data set by its name, read once
_TUNING_SEEDS = (1000, 1001, 1002)  # rates are compared on seeds that no table shows
_SMALL = config.TrainConfig(epochs=20, batch_size=64, learning_rate=1e-2)
_FULL = config.TrainConfig(epochs=8, batch_size=128, learning_rate=1e-2)


# (the study, the base's data set, rows of its main runs, arms in their order) -> printed text, and figures as (title, caption, markup)
More = Callable[[ledger.Ledger, data.Dataset, Sequence[Mapping[str, Any]], Sequence[str]], tuple[str, list[tuple[str, str, Any]]]]


def digits(model: config.ModelConfig, canvas: tuple[int, int] = (16, 16), learning_rate: float = _SMALL.learning_rate) -> config.Config:
    """A base on the embedded digits: trained in the left of the canvas, tested there and in the right."""
    placed = config.DataConfig('digits', canvas=canvas, train_positions='left', unseen_positions='right')
    return config.Config(model, placed, dataclasses.replace(_SMALL, learning_rate=learning_rate))


def full(model: config.ModelConfig, learning_rate: float = _FULL.learning_rate) -> config.Config:
    """A base on data sets of 28 x 28 and more, at their own size."""
    return config.Config(model, config.DataConfig('fashion_mnist'), dataclasses.replace(_FULL, learning_rate=learning_rate))


def main(experiment: ablation.Experiment, doc: str, argv: Sequence[str] | None = None, more: More | None = None) -> NoReturn:
    """Run the experiment as the command line says, and exit: 0 done, 1 a cell failed, 2 bad input, 128 + n on signal n.

    more: what this experiment says besides the tables and figures of all, see `answers.write`.
    """
    argv = sys.argv if argv is None else list(argv)
    flags.define()
    if flags.asked_for_help(argv):
        print(flags.help_text(experiment, doc))
        sys.exit(0)

    def job() -> int:
        return run(experiment, flags.read(argv, flags.FLAGS, functools.partial(asked, experiment)), argv, more)

    guarded(experiment.name, job, 'finished cells are kept, the same command goes on')


def command(
    name: str,
    doc: str | None,
    values: absl_flags.FlagValues,
    asked: Callable[[], T],
    job: Callable[[T], int],
    argv: Sequence[str] | None,
) -> NoReturn:
    """Run a command that is no ablation, with flags of its own, and exit as `main` does.

    asked: of the flags, what they mean, see `flags.read`. job: does that, and says the exit status.
    """
    argv = sys.argv if argv is None else list(argv)
    if flags.asked_for_help(argv):
        print('\n'.join([(doc or '').strip(), '', 'Flags:', *(f'  --{flag:<12} {values[flag].help}' for flag in values)]))
        sys.exit(0)
    guarded(name, lambda: job(flags.read(argv, values, asked, kinds=True)), 'what was finished is kept')


def guarded(name: str, job: Callable[[], int], after_interrupt: str) -> NoReturn:
    """Exit with the job's status, or with that of what stopped it, which standard error says: 2 for bad input, 128 + n on signal n.

    Of bad input there is a line for every problem.
    """
    signal.signal(signal.SIGTERM, _raise_interrupted)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until there is something to save
    try:
        sys.exit(job())
    except errors.InputError as e:
        print('\n'.join(f'{name}: {line}' for line in str(e).split('\n')), file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever read what is printed has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except errors.WorkerError as e:
        print(f'{name}: {e}', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as e:
        number = e.args[0] if e.args else signal.SIGINT
        print(f'\n{name}: interrupted; {after_interrupt}', file=sys.stderr)
        sys.exit(128 + number)


def _work(c: config.Config, image: cost.Shape, classes: int) -> tuple[int, int]:
    """Multiply-adds of an image, on average over the epochs, before and after the network is relaxed; and the most bytes it takes."""
    before, after = (cost.total(model, image, classes).macs for model in (c.model, c.final_model))
    share = (c.train.relax_epoch or 0) / c.train.epochs
    need = max(cost.training_bytes(model, image, classes, c.train) for model in (c.model, c.final_model))
    return round(share * before + (1 - share) * after), need


def _raise_interrupted(number: int, frame: object) -> None:
    raise KeyboardInterrupt(number)


def failed(book: ledger.Ledger) -> int:
    """The exit status of a study: 1 if a cell failed, with a line that says what can be done."""
    names = [cell for cell, row in book.results().items() if row['status'] == 'failed']
    if names:
        some = ', '.join(names[:3]) + ', ...' * (len(names) > 3)
        print(f'{len(names)} failed ({some}): what asked for them runs them once more with --retry', file=sys.stderr)
    return int(bool(names))


class Asked(NamedTuple):
    """What a command line asks of an experiment."""

    base: config.Config
    arms: list[str]
    seeds: int


def asked(experiment: ablation.Experiment) -> Asked:
    """What the flags ask for. Raises InputError with all that is wrong with it without looking at data."""
    f = flags.FLAGS
    seeds = experiment.seeds if f.seeds is None else f.seeds
    with errors.gathered() as check:
        check(errors.whole, 'seeds', seeds, 1, _TUNING_SEEDS[0])
        if f.workers is not None:
            check(errors.positive, 'workers', f.workers)
        if f.save_every is not None:
            check(errors.real, 'save_every', f.save_every, above=0.0)
        check(launching.check, f)
        arms = check(flags.wanted_arms, experiment)
        base = check(flags.base_config, experiment)
        if f.tune and base is not None:
            rates, rate = ', '.join(f'{rate:g}' for rate in RATES), base.train.learning_rate
            check(errors.require, rate in RATES, f'tune tries {rates}, and the rate here, {rate:g}, is none of them: leave it out')
    return Asked(base, arms, seeds)


def run(experiment: ablation.Experiment, asked: Asked, argv: Sequence[str], more: More | None = None) -> int:
    """The whole job; the exit status. Raises InputError, for what does not fit the data, before anything is written."""
    f, (base, arms, number) = flags.FLAGS, asked
    source = sweep.Source(f.data_dir, f.raw_dir)
    opened = functools.cache(functools.partial(data.load, **source._asdict()))
    own, study = ledger.Ledger(f.workdir or Path('runs') / experiment.name), {'experiment': experiment.name, 'base': base.to_json()}
    if f.launcher == 'slurm':
        if not f.dry_run:
            _configs(experiment, base, arms, opened)
        return launching.submit(own, study, argv)
    how = launching.how(f)

    def found() -> dict[str, config.Config]:
        configs = _configs(experiment, base, arms, opened)
        launching.check_fit(how, configs, opened)
        return configs

    def data_of(configs: dict[str, config.Config]) -> list[data.Dataset]:
        return [opened(name) for name in sorted({c.data.dataset for c in configs.values()})]

    configs = launching.agreed(how, [study, arms, number, f.tune, f.retry], found, data_of)
    book = launching.shared(how, own)
    book.create(study)
    cells = functools.partial(_cells, configs, opened)
    wanted = cells([(arm, configs[arm].train.learning_rate, 'main') for arm in arms], range(number))
    if f.tune:
        wanted += cells([(arm, rate, 'tune') for arm in arms for rate in RATES], _TUNING_SEEDS)
    how = launching.dealt_out(how, len(wanted))
    sweep.run(book, experiment.name, wanted, source, how)
    if f.tune:
        best = ablation.best_rates(ablation.validation_scores(book.results().values(), arms, len(_TUNING_SEEDS)))
        retrained = [(arm, rate, 'own_rate') for arm, rate in best.items() if rate != configs[arm].train.learning_rate]
        sweep.run(book, experiment.name, cells(retrained, range(number)), source, how)

    def said() -> int:
        from experiments import answers  # figures and feature maps: imported when there is something to show

        tuned = ablation.validation_scores(own.results().values(), experiment.arms, len(_TUNING_SEEDS))
        if f.profile:
            print(launching.traces(own.folder / 'profiles'))
        with files.writing(own.folder):
            answers.write(experiment, own, base, tuned, opened(base.data.dataset), flags.command(argv), more)
        return failed(own)

    return launching.by_one(how, book, said)


def _configs(experiment: ablation.Experiment, base: config.Config, arms: Sequence[str], opened: Opened) -> dict[str, config.Config]:
    """The configuration of every arm. Raises InputError for all that do not fit the data; those too large are refused as they run."""

    def seen(of: config.DataConfig) -> tuple[cost.Shape, int]:
        return _seen(of, opened)

    def posed(arm: str) -> None:
        with contextlib.suppress(errors.TooLargeError):  # that cell is refused, and the others run
            problem.make(configs[arm], opened(configs[arm].data.dataset))

    opened(base.data.dataset)
    configs = experiment.resolve(base, seen, arms)
    errors.of_each('arm', configs, posed)
    return configs


def _seen(of: config.DataConfig, opened: Opened) -> tuple[cost.Shape, int]:
    dataset = opened(of.dataset)
    return problem.image_shape(of, dataset), len(dataset.class_names)


def _cells(
    configs: Mapping[str, config.Config], opened: Opened, wanted: Sequence[tuple[str, float, str]], seeds: Sequence[int]
) -> list[sweep.Cell]:
    """The cells of (arm, rate, purpose) for all seeds."""
    cells = []
    for arm, rate, purpose in wanted:
        c = dataclasses.replace(configs[arm], train=dataclasses.replace(configs[arm].train, learning_rate=rate))
        macs, need = _work(c, *_seen(c.data, opened))
        cells += [sweep.Cell(arm, seed, c, macs, purpose, need) for seed in seeds]
    return cells
