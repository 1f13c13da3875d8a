"""A finished cell for use in other code: load it, predict with it, look at its first layer."""

import functools
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from cnn_research import config, cost, geometry, ledger, models, schemes, sharing


class Trained(NamedTuple):
    """A finished cell: its row of results, model, variables (`params`, `batch_stats`), and what raw pixels are multiplied by, [C]."""

    row: dict[str, Any]
    model: models.Network
    variables: dict[str, Any]
    scale: np.ndarray

    def logits(self, images: np.ndarray) -> jax.Array:
        """Logits [N, K] for uint8 images [N, H, W, C] of the size the network was trained on (the canvas, where there is one)."""
        return _logits(self.model.config, self.model.num_classes, self.variables, self.scale, images)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The class [N] of uint8 images [N, H, W, C]."""
        return np.asarray(jnp.argmax(self.logits(images), axis=-1))

    def first_layer(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first stage on one uint8 image [H, W, C]: its filters [F, kh, kw, C], and what they make of the image, [H', W', F].

        The filters are those of the middle position (a dense layer's are as large as the image); the maps are before bias, norm, pool
        and ReLU.
        """
        stage = next(cost.stages(self.model.config, image.shape))  # type: ignore[arg-type]
        seen = np.asarray(image[None], np.float32) * self.scale
        filters, maps = _first(stage.scheme, stage.geometry, self.variables['params']['stage_0'], seen)
        return np.asarray(filters), np.asarray(maps)


@functools.partial(jax.jit, static_argnums=(0, 1))  # compiled, so that the kernels of all other positions are never made
def _first(scheme: schemes.Scheme, g: geometry.Geometry, params: Any, seen: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The filters of the middle position [F, kh, kw, C], and the maps [H', W', F] of one image as the network sees it, [1, H, W, C]."""
    row, column = (size // 2 for size in g.positions)
    dense = isinstance(scheme, schemes.Dense) and not isinstance(scheme, schemes.MaskedDense)
    kernel = params['kernel'][:, :, :, row, column] if dense else sharing.expand(scheme, g, params)[row, column]
    return kernel.transpose(3, 0, 1, 2), sharing.apply(scheme, g, params, seen)[0]


@functools.partial(jax.jit, static_argnums=(0, 1))  # cells of one configuration share a program; modules have no equals
def _logits(c: config.ModelConfig, num_classes: int, variables: Any, scale: jax.Array, images: jax.Array) -> jax.Array:
    return models.Network(c, num_classes).apply(variables, jnp.asarray(images, jnp.float32) * scale)  # type: ignore[return-value]


def load_cell(workdir: str | os.PathLike[str], cell: str) -> Trained:
    """Load a finished cell by its name in results.jsonl, such as 'conv_gmp-seed0'.

    Raises:
      InputError: no study there, no such finished cell (the known ones are listed), or a damaged parameter file.
    """
    book = ledger.Ledger(workdir)
    book.study()
    arrays = book.parameters(cell)
    row = book.results()[cell]
    scale = arrays.pop('scale')
    variables = traverse_util.unflatten_dict({tuple(path.split('/')): leaf for path, leaf in arrays.items()})
    classes = variables['params']['classes']['kernel'].shape[-1]
    return Trained(row, models.Network(config.Config.from_json(row['config']).final_model, classes), variables, scale)
