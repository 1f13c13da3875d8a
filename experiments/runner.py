"""From an experiment's table of arms and the command line to a finished sweep with its table and page."""

import dataclasses
import signal
import sys
from pathlib import Path

from absl import app

from cnn_research import ablation, config, data, errors, ledger, problem, sweep
from cnn_research.ablation import RATES
from experiments import flags

_TUNING_SEEDS = (1000,)  # rates are compared on a seed that no table shows
_SMALL = config.TrainConfig(epochs=30, batch_size=32, learning_rate=3e-3)
_FULL = config.TrainConfig(epochs=10, batch_size=128, learning_rate=3e-3)


def digits(model: config.ModelConfig, canvas: tuple[int, int] = (16, 16), **train) -> config.Config:
    """A base on the embedded digits: trained in the left of the canvas, tested there and in the right."""
    placed = config.DataConfig('digits', canvas=canvas, train_positions='left', unseen_positions='right')
    return config.Config(model, placed, dataclasses.replace(_SMALL, **train))


def full(model: config.ModelConfig, **train) -> config.Config:
    """A base on data sets of 28 x 28 and more, at their own size."""
    return config.Config(model, config.DataConfig('fashion_mnist'), dataclasses.replace(_FULL, **train))


def main(experiment: ablation.Experiment, doc: str) -> None:
    """Run the experiment as the command line says, and exit: 0 done, 1 a cell failed, 2 bad input, 128 + n on signal n."""
    flags.define()
    if flags.asked_for_help(sys.argv):
        print(flags.help_text(experiment, doc))
        sys.exit(0)
    signal.signal(signal.SIGTERM, _raise_interrupted)
    try:
        app.run(lambda _: sys.exit(run(experiment)), flags_parser=flags.parse)
    except errors.InputError as e:
        print(f'{experiment.name}: {e}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as e:
        number = e.args[0] if e.args else signal.SIGINT
        print(f'\n{experiment.name}: interrupted; finished cells are kept, the same command goes on', file=sys.stderr)
        sys.exit(128 + number)


def _raise_interrupted(number, frame):
    raise KeyboardInterrupt(number)


def run(experiment: ablation.Experiment) -> int:
    """The whole job; the exit status. Raises InputError before anything is written."""
    f = flags.FLAGS
    config.positive('seeds', f.seeds)
    if f.workers is not None:
        config.positive('workers', f.workers)
    base, arms = flags.base_config(experiment), flags.wanted_arms(experiment)
    source = sweep.Source(f.dataset, f.data_dir, f.raw_dir)
    dataset = data.load(source.name, data_dir=source.data_dir, raw_dir=source.raw_dir)
    image, classes = problem.image_shape(base.data, dataset), len(dataset.class_names)
    configs = {arm: c for arm, c in experiment.resolve(base, image, classes).items() if arm in arms}
    for c in configs.values():
        problem.make(c, dataset)

    def cells(purpose, seeds, rates):
        return [_cell(a, s, _with_rate(configs[a], r), image, classes, purpose) for a in rates for r in rates[a] for s in seeds]

    book = ledger.Ledger(f.workdir or Path('runs') / experiment.name)
    book.create({'experiment': experiment.name, 'base': base.to_json()})
    everything = cells('main', range(f.seeds), {arm: [base.train.learning_rate] for arm in arms})
    if f.tune:
        everything += cells('tune', _TUNING_SEEDS, dict.fromkeys(arms, RATES))
    workers = f.workers or sweep.default_workers()
    sweep.run(book, experiment.name, everything, source, workers)
    own = {}
    if f.tune:
        own = best_rates(list(book.results().values()), arms)
        sweep.run(book, experiment.name, cells('own_rate', range(f.seeds), {a: [r] for a, r in own.items()}), source, workers)
    from experiments import answers  # figures and feature maps: imported when there is something to show

    answers.write(experiment, book, base, arms, range(f.seeds), own, dataset, flags.script_command())
    return int(any(row['status'] == 'failed' for row in book.results().values()))


def _with_rate(c: config.Config, rate: float) -> config.Config:
    return dataclasses.replace(c, train=dataclasses.replace(c.train, learning_rate=rate))


def _cell(arm: str, seed: int, c: config.Config, image, classes: int, purpose: str) -> sweep.Cell:
    from cnn_research import cost

    return sweep.Cell(arm, seed, c, cost.total(c.model, image, classes).macs, purpose)


def best_rates(rows: list[dict], arms: list[str]) -> dict[str, float]:
    """Each arm's learning rate with the highest mean validation accuracy over the tuning seeds; diverged runs count as zero."""

    def accuracy(arm, rate):
        scores = [r['validation_accuracy'] or 0.0 for r in rows if (r['arm'], r['purpose'], r['learning_rate']) == (arm, 'tune', rate)]
        return sum(scores) / len(scores)

    return {arm: max(RATES, key=lambda rate: accuracy(arm, rate)) for arm in arms}


def common_rate(rows: list[dict], arms: list[str]) -> float:
    """The learning rate with the highest validation accuracy over all arms and tuning seeds."""
    scores = dict.fromkeys(RATES, 0.0)
    for row in rows:
        if row['purpose'] == 'tune' and row['arm'] in arms:
            scores[row['learning_rate']] += row['validation_accuracy'] or 0.0
    return max(RATES, key=lambda rate: scores[rate])
