"""What the runs of `image_size` say: accuracy by side, and seconds and memory of a training step, measured here."""

import json
import math
import multiprocessing
import platform
import resource
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

import tqdm

from cnn_research import config, cost, files, ledger, sweep
from cnn_research.report import costs, places, style, table

Rows = Sequence[Mapping[str, Any]]
Points = Sequence[Mapping[str, Any]]
STEPS, SECONDS = 10, 3.0  # of a measurement, at most; one step at least
BATCH = 32  # images of a step that is timed
_ROOM = 0.75  # share of the memory that a training may need: the system and the allocator need some too
_CLASSES = 10


def say(
    book: ledger.Ledger,
    rows: Rows,
    networks: Mapping[str, config.ModelConfig],
    kinds: Sequence[str],
    sides: Sequence[int],
    timed: Sequence[tuple[int, int]],
) -> tuple[str, list]:
    """The tables and figures of accuracy, weights, seconds and memory by image size. Steps are timed last, once per study and machine."""
    text, pictures = [_accuracies(rows, networks, kinds, sides)], []
    panels = _panels(rows, networks, kinds, sides)
    if panels:
        seeds = style.seeds_text([sum(row['arm'] == arm and row['status'] == 'ok' for row in rows) for arm in {row['arm'] for row in rows}])
        title, subtitle = 'The same digits in larger images', f'{seeds}; test accuracy, mean over seeds; dashed: chance'
        label = 'side of the image in pixels (log scale)'
        figure = places.curve_panels(title, subtitle, sides, panels, label, 1 / _CLASSES, log=True)
        pictures.append(('Accuracy by size', 'On a black canvas, anywhere, and scaled up.', style.figure_svg(figure)))
    points = steps(book, networks, timed)
    if points:
        text.append(_costs(points))
        figure = costs.step_costs(points, list(networks), cost.memory())
        pictures.append(
            ('Cost of a training step', f'Batch {BATCH}, Adam, one thread, median of up to {STEPS} steps.', style.figure_svg(figure))
        )
    return '\n\n'.join(text), pictures


def _mean(rows: Rows, arm: str) -> float | None:
    found = [row['test_accuracy'] for row in rows if row['arm'] == arm and row['status'] == 'ok']
    return statistics.fmean(found) if found else None


def _accuracies(rows: Rows, networks, kinds: Sequence[str], sides: Sequence[int]) -> str:
    states = {row['arm']: row['status'] for row in rows}
    lines = []
    for kind in kinds:
        for name in networks:
            arms = [f'{name}_{kind}_{side}' for side in sides]
            means = [_mean(rows, arm) for arm in arms]
            cells = [states.get(arm, table.NONE) if mean is None else f'{100 * mean:.1f}' for arm, mean in zip(arms, means)]
            lines.append((f'{name}, {kind}', *cells))
    return f'test accuracy (%) by side\n{table.plain(("network", *map(str, sides)), lines)}'


def _panels(rows: Rows, networks, kinds: Sequence[str], sides: Sequence[int]) -> dict[str, dict[str, list[float]]]:
    """kind -> network -> accuracy by side, NaN where it was not trained; networks that were trained at no side are left out."""
    found: dict[str, dict[str, list[float]]] = {}
    for kind in kinds:
        for name in networks:
            means = [_mean(rows, f'{name}_{kind}_{side}') for side in sides]
            if any(mean is not None for mean in means):
                found.setdefault(kind, {})[name] = [math.nan if mean is None else mean for mean in means]
    return found


def steps(book: ledger.Ledger, networks: Mapping[str, config.ModelConfig], timed: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """A point for each network and image size: weights, predicted and measured bytes, seconds per step, status 'ok' or 'refused'.

    They are kept in steps.json, with what they were measured on, and measured anew elsewhere; none while another process measures them.
    """
    path = book.folder / 'steps.json'
    on = {'machine': platform.platform(), 'memory': cost.memory(), 'jax': metadata.version('jax'), 'batch': BATCH}
    on |= {'networks': list(networks), 'sizes': [list(size) for size in timed]}
    with book.claim('steps') as mine:
        kept = json.loads(path.read_text()) if path.exists() else {}
        if kept.get('on') == on or not mine:
            return kept.get('points', [])
        points: list[dict[str, Any]] = []
        with tqdm.tqdm(total=len(networks) * len(timed), desc='steps', disable=None) as bar, sweep.one_thread_each():
            for name, model in networks.items():
                for point in _points(name, model, timed):
                    points.append(point)
                    bar.update()
        files.atomic_write_text(path, json.dumps({'on': on, 'points': points}, indent=1) + '\n')
    return points


def _points(name: str, model: config.ModelConfig, timed: Sequence[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """The points of a network by rising size, from a process of its own, whose peak memory so far is that of the largest size so far."""
    context = multiprocessing.get_context('spawn')
    pipe, other = context.Pipe()
    process = context.Process(target=_measure, args=(other, model, timed), daemon=True)
    process.start()
    other.close()
    try:
        for height, width in timed:
            image, training = (height, width, 1), config.TrainConfig(batch_size=BATCH)
            weights, need = cost.total(model, image, _CLASSES).weights, cost.training_bytes(model, image, _CLASSES, training)
            point: dict[str, Any] = {'network': name, 'height': height, 'width': width, 'weights': weights, 'predicted_bytes': need}
            point |= {'status': 'refused', 'seconds': None, 'peak_bytes': None}
            if need <= _ROOM * cost.memory():
                try:
                    pipe.send((height, width))
                    point |= pipe.recv() | {'status': 'ok'}
                except (EOFError, OSError):  # the machine had less than it said
                    point['status'] = 'failed'
            yield point
    finally:
        process.terminate()
        process.join()


def _measure(pipe: Any, model: config.ModelConfig, timed: Sequence[tuple[int, int]]) -> None:
    """Answer each size, in increasing order, with the seconds of a step and the peak memory of this process so far."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from cnn_research import engine, feeds, problem

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and ends this process
    for _ in timed:
        height, width = pipe.recv()
        c = config.Config(model, config.DataConfig('random'), config.TrainConfig(batch_size=BATCH))
        posed = problem.Problem(c, (height, width, 1), _CLASSES, BATCH, BATCH)
        random = np.random.default_rng(0)
        pool = problem.Examples(random.integers(0, 256, (BATCH, height, width, 1), np.uint8), np.zeros(BATCH, np.int32), None)
        scale = np.full(1, 1 / 255, np.float32)
        data = feeds.resident([problem.Arrays(pool, np.arange(BATCH, dtype=np.int32), pool, pool, pool, None, None, scale)])
        p, seed = engine.programs(posed.program), np.uint32(0)
        order = p.order(posed.setting, seed, np.int32(0))
        # all zero: to draw hundreds of millions of weights takes longer than the steps, and what they are does not change the time
        state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(p.init, seed))
        seconds: list[float] = []
        while len(seconds) < 2 or (len(seconds) <= STEPS and sum(seconds[1:]) < SECONDS):  # the first one compiles
            started = time.perf_counter()
            state, metrics = p.chunk(posed.setting, state, engine.NOTHING, data, seed, order, np.int32(0), np.int32(1))
            float(metrics.loss)
            seconds.append(time.perf_counter() - started)
        del state
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
        pipe.send({'seconds': statistics.median(seconds[1:]), 'peak_bytes': peak})


def _costs(points: Points) -> str:
    lines = []
    for point in points:
        measured = point['status'] == 'ok'
        seconds = f'{1e3 * point["seconds"]:.3g} ms' if measured else point['status']
        peak = cost.human_bytes(point['peak_bytes']) if measured else table.NONE
        size = f'{point["width"]} x {point["height"]}'
        lines.append((f'{point["network"]}, {size}', point['weights'], cost.human_bytes(point['predicted_bytes']), peak, seconds))
    return f'a training step\n{table.plain(("network", "weights", "counted", "peak memory", "a step"), lines)}'
