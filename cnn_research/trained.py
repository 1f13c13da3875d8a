"""A finished cell for use in other code: load it, predict with it, look at its first layer."""

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from cnn_research import config, ledger, models, ops


class Trained(NamedTuple):
    """A finished cell: its row of results, model, variables (`params`, `batch_stats`), and what raw pixels are multiplied by, [C]."""

    row: dict[str, Any]
    model: models.Network
    variables: dict[str, Any]
    scale: np.ndarray

    def logits(self, images: np.ndarray) -> jax.Array:
        """Logits [N, K] for uint8 images [N, H, W, C] of the size the network was trained on (the canvas, where there is one)."""
        return self.model.apply(self.variables, jnp.asarray(images, jnp.float32) * self.scale)  # type: ignore[return-value]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The class [N] of uint8 images [N, H, W, C]."""
        return np.asarray(jnp.argmax(self.logits(images), axis=-1))

    def first_maps(self, image: np.ndarray) -> np.ndarray:
        """What the first stage's spatial map makes of one uint8 image [H, W, C]: [H', W', F], before norm, pool and ReLU."""
        stage, kernel = self.model.config.stages()[0], self.variables['params']['stage_0']['kernel']
        x = jnp.asarray(image[None], jnp.float32) * self.scale
        strides = (stage.stride, stage.stride)
        if stage.sharing == 'dense':
            y = ops.dense(x, kernel)
        else:
            apply = ops.shared if stage.sharing == 'shared' else ops.locally_connected
            y = apply(x, kernel, strides, self.model.config.padding)
        return np.asarray(y[0])

    def first_filters(self) -> np.ndarray:
        """One filter per map of the first stage, [F, kh, kw, C]: the shared one, or the one that the middle position owns.

        A dense layer's is as large as the image.
        """
        kernel = np.asarray(self.variables['params']['stage_0']['kernel'])
        sharing = self.model.config.sharing[0]
        if sharing == 'local':
            kernel = kernel[kernel.shape[0] // 2, kernel.shape[1] // 2]
        elif sharing == 'dense':
            kernel = kernel[:, :, :, kernel.shape[3] // 2, kernel.shape[4] // 2]
        return kernel.transpose(3, 0, 1, 2)


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
    classes = len(variables['params']['classes']['bias'])
    return Trained(row, models.Network(config.Config.from_json(row['config']).model, classes), variables, scale)
