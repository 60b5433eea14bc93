# SPDX-License-Identifier: Apache-2.0
"""Convolutions, and transposed ones, of images with channels last; on the CPU as large matrix products.

XLA's own convolutions are slow on a CPU, above all backward. There a convolution of stride 1 is one product for a few
images at a time: each pixel gets its neighbours to the left and right as channels, the product gives what it adds to
the pixels above and below, and these are summed. Both gradients are such products too. A stride is taken into the
channels (`space_to_depth`), so that one function serves all. GPU and TPU keep `jax.lax`.

Over several devices each goes over its own images: a loop over an axis that is split would gather it everywhere.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from perceiver_jax.models.image_adapters import depth_to_space, space_to_depth
from perceiver_jax.models.target import batch_axes, platform

CHUNK_BYTES = 2**23
"""Of the widened images that are in work at a time: they and the product stay in a processor's cache."""
LAYOUT = ("NHWC", "HWIO", "NHWC")

Images = Float[Array, "batch height width channels"]


class Convolution(nn.Module):
    """Square convolution with a bias, padded to ceil(size / stride), or transposed to size * stride.

    Attributes:
        features: channels of the output.
        size, stride: of the kernel.
        transposed: the transpose of a convolution from `features` channels, whose kernel it holds: (height, width,
            out, in).
        dtype: of the products.
    """

    features: int
    size: int
    stride: int = 1
    transposed: bool = False
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Images) -> Float[Array, "batch rows columns features"]:
        channels = (images.shape[-1], self.features)
        shape = (self.size, self.size, *(channels[::-1] if self.transposed else channels))
        kernel, bias = _parameters(self, shape)
        apply = convolve_transposed if self.transposed else convolve
        return apply(images.astype(self.dtype), kernel, self.stride) + bias


class BroadcastConvolution(nn.Module):
    """`Convolution(transposed=True)` of vectors repeated at every place of a grid, plus what all grids have there.

    It is linear, so both go through it apart: the grid once instead of for each vector, a vector as one product with
    the kernel, whose taps are then summed where they meet the grid.
    """

    features: int
    size: int
    stride: int = 1
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, vectors: Float[Array, "batch channels"], grid: Float[Array, "height width channels"]
    ) -> Float[Array, "batch rows columns features"]:
        kernel, bias = _parameters(self, (self.size, self.size, self.features, vectors.shape[-1]))
        vectors, grid = vectors.astype(self.dtype), grid.astype(self.dtype)
        spread = spread_vectors(vectors, kernel, self.stride, grid.shape[:2])
        return spread + convolve_transposed(grid[None], kernel, self.stride) + bias


def _parameters(module: nn.Module, shape: Sequence[int]) -> tuple[Array, Array]:
    kernel = module.param("kernel", module.kernel_init, tuple(shape), jnp.float32)
    bias = module.param("bias", nn.initializers.zeros, (module.features,), jnp.float32)
    return jnp.asarray(kernel, module.dtype), jnp.asarray(bias, module.dtype)


def convolve(
    images: Images, kernel: Float[Array, "taps taps channels features"], stride: int
) -> Float[Array, "batch rows columns features"]:
    """With "SAME" padding: ceil(height / stride) x ceil(width / stride) places."""
    if platform() != "cpu":
        return jax.lax.conv_general_dilated(images, kernel, (stride, stride), "SAME", dimension_numbers=LAYOUT)
    low = [low_padding(size, len(kernel), stride) for size in images.shape[1:3]]
    beyond = [(0, -size % stride) for size in images.shape[1:3]]
    whole = jnp.pad(images, ((0, 0), *beyond, (0, 0)))
    return convolve_by_products(space_to_depth(whole, stride), *_without_stride(kernel, low, stride))


def convolve_transposed(
    images: Images, kernel: Float[Array, "taps taps features channels"], stride: int
) -> Float[Array, "batch rows columns features"]:
    """The transpose of `convolve` with the same kernel: height * stride x width * stride places."""
    if platform() != "cpu":
        return jax.lax.conv_transpose(
            images, kernel, (stride, stride), "SAME", dimension_numbers=LAYOUT, transpose_kernel=True
        )
    low = [low_padding(size * stride, len(kernel), stride) for size in images.shape[1:3]]
    kernel, low = _without_stride(kernel, low, stride)
    turned, low = kernel[::-1, ::-1].swapaxes(2, 3), (len(kernel) - 1 - low[0], kernel.shape[1] - 1 - low[1])
    return depth_to_space(convolve_by_products(images, turned, low), stride)


def spread_vectors(
    vectors: Float[Array, "batch channels"],
    kernel: Float[Array, "taps taps features channels"],
    stride: int,
    shape: tuple[int, int],
) -> Float[Array, "batch rows columns features"]:
    """`convolve_transposed` of vectors that stand at every place of a grid of this shape."""
    down, across = (_reach(size, len(kernel), stride).astype(kernel.dtype) for size in shape)
    taps = jnp.einsum("bc,ijfc->bijf", vectors, kernel)
    columns = jnp.einsum("xj,bijf->bixf", across, taps)
    rows = jnp.broadcast_to(down, (len(vectors), *down.shape))  # a product for each vector writes the result in place
    return jnp.einsum("byi,bixf->byxf", rows, columns)


def low_padding(size: int, taps: int, stride: int) -> int:
    """How many zeros "SAME" puts before the first of `size` places."""
    return max((math.ceil(size / stride) - 1) * stride + taps - size, 0) // 2


def _reach(size: int, taps: int, stride: int) -> Float[np.ndarray, "places taps"]:
    """1 where a tap of a transposed convolution brings one of `size` places to this place of the output."""
    places, tap = np.arange(size * stride)[:, None], np.arange(taps)
    source = places + low_padding(size * stride, taps, stride) - tap
    return ((source % stride == 0) & (source >= 0) & (source < size * stride)).astype(np.float32)


def _without_stride(kernel: Array, low: Sequence[int], stride: int) -> tuple[Array, tuple[int, int]]:
    """Kernel and padding of the same convolution of stride 1 after `space_to_depth`; zeros where it has no tap."""
    *_, channels, features = kernel.shape
    new_low = tuple(math.ceil(size / stride) for size in low)
    before = [stride * new - old for new, old in zip(new_low, low, strict=True)]
    after = [-(front + len(kernel)) % stride for front in before]
    kernel = jnp.pad(kernel, (*zip(before, after, strict=True), (0, 0), (0, 0)))
    down, across = kernel.shape[0] // stride, kernel.shape[1] // stride
    kernel = kernel.reshape(down, stride, across, stride, channels, features).transpose(0, 2, 1, 3, 4, 5)
    return kernel.reshape(down, across, stride * stride * channels, features), new_low


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve_by_products(
    images: Images, kernel: Float[Array, "down across channels features"], low: tuple[int, int]
) -> Float[Array, "batch height width features"]:
    """Stride 1 and as many places as before: sum of images[y + i - low[0], x + j - low[1]] @ kernel[i, j]."""
    axes = batch_axes(images.shape[0])
    return _on_mesh(functools.partial(_convolved, low), axes, (P(axes), P()), P(axes))(images, kernel)


def _convolved(low: tuple[int, int], images: Array, kernel: Array) -> Array:
    down, across, channels, features = kernel.shape
    matrix = kernel.transpose(1, 2, 0, 3).reshape(across * channels, down * features)

    def convolved(chunk: Array) -> Array:
        beside = _neighbours(chunk, _offsets(across, low[1]), axis=2)
        return _summed(_product(beside, matrix), _offsets(down, low[0]), axis=1).astype(chunk.dtype)

    chunks = _chunks(images, _chunk_size(images, kernel))
    return jax.lax.map(convolved, chunks).reshape(*images.shape[:3], features)


def _forward(images: Array, kernel: Array, low: tuple[int, int]) -> tuple[Array, tuple[Array, Array]]:
    return convolve_by_products(images, kernel, low), (images, kernel)


def _backward(low: tuple[int, int], kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    axes = batch_axes(gradient.shape[0])
    of_device = functools.partial(_gradients, low, axes)
    return _on_mesh(of_device, axes, (P(axes), P(), P(axes)), (P(axes), P()))(*kept, gradient)


def _gradients(
    low: tuple[int, int], axes: tuple[str, ...], images: Array, kernel: Array, gradient: Array
) -> tuple[Array, Array]:
    """Of the images, and of the kernel by the images of all devices."""
    down, across, channels, features = kernel.shape
    matrix = kernel.transpose(0, 3, 1, 2).reshape(down * features, across * channels)
    rows, columns = ([-offset for offset in _offsets(*it)] for it in ((down, low[0]), (across, low[1])))

    def accumulate(to_kernel: Array, chunk: tuple[Array, Array]) -> tuple[Array, Array]:
        beside = _neighbours(chunk[0], [-offset for offset in columns], axis=2)
        above = _neighbours(chunk[1], rows, axis=1)
        to_kernel += _product(beside.reshape(-1, across * channels).T, above.reshape(-1, down * features))
        return to_kernel, _summed(_product(above, matrix), columns, axis=2).astype(images.dtype)

    size = _chunk_size(images, kernel)
    zeros = jnp.zeros((across * channels, down * features), jnp.float32)
    to_kernel, to_images = jax.lax.scan(accumulate, zeros, (_chunks(images, size), _chunks(gradient, size)))
    to_kernel = jax.lax.psum(to_kernel, axes).reshape(across, channels, down, features).transpose(2, 0, 1, 3)
    return to_images.reshape(images.shape), to_kernel.astype(kernel.dtype)


def _on_mesh(part: Callable, axes: tuple[str, ...], in_specs: Any, out_specs: Any) -> Callable:
    """`part` of the images that each device has."""
    if not axes:
        return part
    return jax.shard_map(part, in_specs=in_specs, out_specs=out_specs, axis_names=set(axes), check_vma=False)


convolve_by_products.defvjp(_forward, _backward)


def _offsets(taps: int, low: int) -> list[int]:
    return [tap - low for tap in range(taps)]


def _product(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, preferred_element_type=jnp.float32)


def _chunk_size(images: Array, kernel: Array) -> int:
    """Images in work at a time: the most that divide the batch and keep to `CHUNK_BYTES`."""
    batch, height, width, _ = images.shape
    down, across, channels, features = kernel.shape
    most = CHUNK_BYTES // (4 * height * width * max(across * channels, down * features))
    return max(size for size in range(1, batch + 1) if batch % size == 0 and size <= max(most, 1))


def _chunks(images: Array, size: int) -> Array:
    return images.reshape(-1, size, *images.shape[1:])


def _shifted(images: Array, offset: int, axis: int) -> Array:
    """Place p holds what place p + offset held; zeros come in."""
    padding = [(0, 0, 0)] * images.ndim
    padding[axis] = (-offset, offset, 0)
    return jax.lax.pad(images, jnp.zeros((), images.dtype), padding)


def _neighbours(images: Array, offsets: Sequence[int], axis: int) -> Array:
    """For each place what stands at these offsets, as channels.

    Each is padded with zeros to its channels, and all are added: XLA writes that in one pass, four times faster than
    it concatenates or selects.
    """
    channels, wide = images.shape[-1], 0
    for index, offset in enumerate(offsets):
        place = (index * channels, (len(offsets) - 1 - index) * channels, 0)
        part = _shifted(images, offset, axis)
        wide += jax.lax.pad(part, jnp.zeros((), part.dtype), ((0, 0, 0), (0, 0, 0), (0, 0, 0), place))
    return wide


def _summed(parts: Array, offsets: Sequence[int], axis: int) -> Array:
    """The sum over taps of the part that each place's neighbour at this offset has for it."""
    parts = parts.reshape(*parts.shape[:-1], len(offsets), -1)
    return sum(_shifted(parts[..., index, :], offset, axis) for index, offset in enumerate(offsets))
