"""One family of networks: stages of (spatial map, norm, pool, ReLU), a head that ends the maps, hidden dense layers, classes.

A member is a `config.ModelConfig`; the field `sharing` says which spatial map each stage uses, and all else stays the same, so that
two members differ in what is studied and in nothing more.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnn_research import config, layers, pooling

# He et al. 2015: keeps the variance through ReLU. The classifier's scale of 1 starts its logits at unit variance at most.
_before_relu = nn.initializers.he_normal()


class Network(nn.Module):
    """Images [N, H, W, C] to logits [N, num_classes]. Pure: batch statistics live in the collection `batch_stats`.

    Float32 is computed at full precision, where accelerators would use less by themselves; logits have the type of the images.
    """

    config: config.ModelConfig
    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        c, images = self.config, x.dtype
        dtype = jnp.bfloat16 if c.compute == 'bfloat16' else None  # None: what images and parameters are
        norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, dtype=dtype)
        biased = c.biases == 'all' and c.norm == 'none'  # a norm brings its own
        dense = functools.partial(nn.Dense, precision=jax.lax.Precision.HIGHEST, dtype=dtype)
        for i, stage in enumerate(c.stages()):
            x = layers.SpatialMap(
                scheme=stage.sharing,
                features=stage.features,
                kernel_size=(stage.kernel_size, stage.kernel_size),
                strides=(stage.stride, stage.stride),
                padding=c.padding,
                use_bias=biased,
                dtype=dtype,
                kernel_init=_before_relu,
                name=f'stage_{i}',
            )(x)
            if c.norm == 'batch':
                x = norm(name=f'norm_{i}')(x)
            if c.downsampling != 'max':
                x = nn.relu(x)
            if stage.pool > 1:
                x = pooling.WAYS[c.downsampling](x, stage.pool, c.padding == 'CIRCULAR')
            if c.downsampling == 'max':
                x = nn.relu(x)  # after the pool: the two commute, and this way ReLU sees a quarter of the numbers
        x = apply_head(c.head, x)
        for i, width in enumerate(c.hidden):
            x = dense(width, use_bias=biased, kernel_init=_before_relu, name=f'hidden_{i}')(x)
            x = nn.relu(norm(name=f'hidden_norm_{i}')(x) if c.norm == 'batch' else x)
        return dense(self.num_classes, use_bias=c.biases != 'none', name='classes')(x).astype(images)


def apply_head(head: str, x: jax.Array) -> jax.Array:
    """End the maps: [N, H, W, F] to [N, H * W * F] (flatten), or to [N, F] by the mean (gap) or the maximum (gmp) over positions."""
    if head == 'flatten':
        return x.reshape(x.shape[0], -1)
    return jnp.mean(x, axis=(1, 2)) if head == 'gap' else jnp.max(x, axis=(1, 2))
