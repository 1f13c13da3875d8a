"""What a trained network reads all over its canvas: accuracy by position, and whether two shifts of an image are read alike."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnn_research import engine, measure, train
from cnn_research.problem import Arrays, Examples, Problem

PLACES = 9  # rows and columns of positions that are tested, at most: the outermost ones and others between them
IMAGES = 1000  # test images that stand at every position, at most: the first ones
_BATCH = 256
_KEY = 2019  # of the random shifts, the same for all arms and seeds


def probe(problem: Problem, state: engine.State, data: Arrays) -> dict[str, Any]:
    """Facts of a row of results, for a problem with a canvas.

    `position_rows`, `position_columns`: the positions tested; `position_accuracy`: [rows][columns], each over the same images;
    `anywhere_accuracy`: their mean. `consistency`: the share of images that are read alike at two random positions (Zhang 2019);
    `circular_consistency`: after two random circular shifts of the canvas (Chaman & Dokmanic 2021).
    """
    assert data.test is not None
    images, labels = np.asarray(data.test.images[:IMAGES]), data.test.labels[:IMAGES]
    free = [side - image + 1 for side, image in zip(problem.image, images.shape[1:3])]
    rows, columns = (np.unique(np.linspace(0, size - 1, min(size, PLACES)).round().astype(int)) for size in free)

    def accuracy(row: int, column: int) -> float:
        corners = np.tile(np.array([[row, column]], np.int32), (len(labels), 1))
        return train.score(problem, state, data.scale, Examples(images, labels, corners))['accuracy']

    found = [[accuracy(row, column) for column in columns] for row in rows]
    return {
        'position_rows': rows.tolist(),
        'position_columns': columns.tolist(),
        'position_accuracy': found,
        'anywhere_accuracy': float(np.mean(found)),
        **_consistencies(problem, state, data, images, (free[0] - 1, free[1] - 1)),
    }


def _consistencies(problem: Problem, state: engine.State, data: Arrays, images: np.ndarray, most: tuple[int, int]) -> dict[str, float]:
    number, (height, width) = len(images), problem.image[:2]
    rows = np.minimum(np.arange(-(-number // _BATCH) * _BATCH), number - 1)  # whole batches, the last image repeated: one compiled program
    on = np.zeros((number, height, width, images.shape[3]), images.dtype)
    on[:, : images.shape[1], : images.shape[2]] = images
    logits = functools.partial(engine.programs(problem.program).logits, state.params, state.batch_stats, data.scale)

    def share(circular: bool, most: tuple[int, int]) -> float:
        moves = np.asarray(measure.random_moves(jax.random.key(_KEY), number, (0, 0), most))
        parts = [rows[first : first + _BATCH] for first in range(0, len(rows), _BATCH)]
        found = [measure.alike(logits, jnp.asarray(on[part]), moves[part], circular=circular) for part in parts]
        return float(np.concatenate(found)[:number].mean())

    return {'consistency': share(False, most), 'circular_consistency': share(True, (height - 1, width - 1))}
