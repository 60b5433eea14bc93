# SPDX-License-Identifier: Apache-2.0
"""The slot autoencoder from plain PyTorch layers: `--peer=torch`. Imported only when asked for.

As one would write it first: `Conv2d`, `ConvTranspose2d` on a slot repeated at every place of the grid, `GRUCell`,
`LayerNorm`, `Linear`. Modules have our names, so that our parameters fit after a transposition
(`tests/benchmarks_test.py`: the same images to 1e-5).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks.inputs import RandomArrays
from benchmarks.torch_steps import TorchSteps
from perceiver_jax.errors import ConfigError
from perceiver_jax.models.attention import SHARE_EPSILON
from perceiver_jax.models.broadcast_decoders import COLORS, place_positions, soft_positions
from perceiver_jax.models.convolutions import low_padding
from perceiver_jax.models.slot_attention import NORM_EPSILON


class Pictures(NamedTuple):
    """Reconstruction, pictures and shares of the slots; colours come first."""

    image: torch.Tensor
    recons: torch.Tensor
    masks: torch.Tensor


class SoftPositions(nn.Module):
    """Adds a linear map of the four distances to the sides to the places of a grid with colours first."""

    def __init__(self, channels: int):
        super().__init__()
        self.project = nn.Linear(4, channels)

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        places = torch.from_numpy(soft_positions(*grid.shape[-2:])).to(grid.device)
        return grid + self.project(places).permute(2, 0, 1)


class ConvolutionEncoder(nn.Module):
    """5 x 5 convolutions with ReLU, padded as TensorFlow and JAX do."""

    def __init__(self, num_channels: int, strides: Sequence[int]):
        super().__init__()
        self.strides, self.num_channels = strides, num_channels
        for layer, stride in enumerate(strides):
            padding = 2 if stride == 1 else 0
            convolution = nn.Conv2d(num_channels if layer else COLORS, num_channels, 5, stride, padding)
            setattr(self, f"layer_{layer}", convolution)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for layer, stride in enumerate(self.strides):
            if stride > 1:
                images = _pad(images, 5, stride)
            images = getattr(self, f"layer_{layer}")(images).relu()
        return images


def _pad(images: torch.Tensor, taps: int, stride: int) -> torch.Tensor:
    sides = []
    for size in reversed(images.shape[-2:]):
        low, places = low_padding(size, taps, stride), math.ceil(size / stride)
        sides += [low, max((places - 1) * stride + taps - size, 0) - low]
    return nn.functional.pad(images, sides)


class PatchEncoder(nn.Module):
    """An MLP on each patch and what is around it."""

    def __init__(self, patch_size: int, context: int, num_channels: int, num_layers: int):
        super().__init__()
        self.patch_size, self.num_layers, self.num_channels = patch_size, num_layers, num_channels
        self.context = context
        for layer in range(num_layers):
            channels = num_channels if layer else COLORS * (patch_size + 2 * context) ** 2
            setattr(self, f"layer_{layer}", nn.Linear(channels, num_channels))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        size, window = self.patch_size, self.patch_size + 2 * self.context
        images = nn.functional.pad(images, 4 * (self.context,), mode="replicate")
        hidden = images.unfold(2, window, size).unfold(3, window, size).permute(0, 2, 3, 4, 5, 1).flatten(3)
        for layer in range(self.num_layers):
            hidden = getattr(self, f"layer_{layer}")(hidden).relu()
        return hidden.permute(0, 3, 1, 2)


class ConvolutionDecoder(nn.Module):
    """A slot at every place of a grid, with positions, through transposed convolutions."""

    def __init__(self, slot_dim: int, image_size: int, strides: Sequence[int], num_channels: int):
        super().__init__()
        self.size, self.strides = image_size // math.prod(strides), strides
        self.positions = SoftPositions(slot_dim)
        for layer, stride in enumerate(strides):
            convolution = _transposed(num_channels if layer else slot_dim, num_channels, 5, stride)
            setattr(self, f"layer_{layer}", convolution)
        self.out = _transposed(num_channels, COLORS + 1, 3, 1)

    def forward(self, slots: torch.Tensor) -> torch.Tensor:
        batch, num_slots, slot_dim = slots.shape
        grid = slots.reshape(batch * num_slots, slot_dim, 1, 1).expand(-1, -1, self.size, self.size)
        grid, size = self.positions(grid), self.size
        for layer, stride in enumerate(self.strides):
            size *= stride
            grid = getattr(self, f"layer_{layer}")(grid)[..., :size, :size].relu()
        return self.out(grid).unflatten(0, (batch, num_slots))


def _transposed(channels: int, features: int, taps: int, stride: int) -> nn.ConvTranspose2d:
    padding = low_padding(stride * taps, taps, stride)
    return nn.ConvTranspose2d(channels, features, taps, stride, padding)


class PixelDecoder(nn.Module):
    """The same MLP at every place; slots and positions go through its first layer apart, as in ours."""

    def __init__(
        self, slot_dim: int, image_size: int, patch_size: int, fourier_bands: int, num_channels: int, num_layers: int
    ):
        super().__init__()
        self.places, self.patch_size, self.num_layers = image_size // patch_size, patch_size, num_layers
        self.grid = torch.from_numpy(np.array(place_positions(self.places, fourier_bands)))
        self.slots = nn.Linear(slot_dim, num_channels)
        self.positions = nn.Linear(self.grid.shape[-1], num_channels, bias=False)
        for layer in range(num_layers - 1):
            setattr(self, f"layer_{layer}", nn.Linear(num_channels, num_channels))
        self.out = nn.Linear(num_channels, patch_size**2 * (COLORS + 1))

    def forward(self, slots: torch.Tensor) -> torch.Tensor:
        hidden = (self.slots(slots)[:, :, None, None] + self.positions(self.grid.to(slots.device))).relu()
        for layer in range(self.num_layers - 1):
            hidden = getattr(self, f"layer_{layer}")(hidden).relu()
        patches = self.out(hidden).unflatten(-1, (COLORS + 1, self.patch_size, self.patch_size))
        pixels = patches.permute(0, 1, 4, 2, 5, 3, 6)  # colours, rows, size, columns, size
        return pixels.reshape(*pixels.shape[:3], self.places * self.patch_size, -1)


class FirstSlots(nn.Module):
    """Means and deviations of what the slots begin with."""

    def __init__(self, num_slots: int, slot_dim: int, initializer: str):
        super().__init__()
        shapes = {"shared_gaussian": (1, 1), "slot_gaussian": (num_slots, num_slots), "learned_noise": (num_slots, 1)}
        if initializer not in shapes:
            raise ConfigError(f"initializer={initializer!r}: --peer=torch has {', '.join(shapes)}.")
        means, deviations = shapes[initializer]
        self.mean = nn.Parameter(0.1 * torch.randn(1, means, slot_dim))
        self.log_deviation = nn.Parameter(0.1 * torch.randn(1, deviations, slot_dim))

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        return self.mean + self.log_deviation.exp() * noise


class SlotUpdate(nn.Module):
    """One iteration."""

    def __init__(self, slot_dim: int, mlp_dim: int):
        super().__init__()
        self.norm, self.query = nn.LayerNorm(slot_dim, NORM_EPSILON), nn.Linear(slot_dim, slot_dim, bias=False)
        self.gru = nn.GRUCell(slot_dim, slot_dim)
        self.mlp_norm = nn.LayerNorm(slot_dim, NORM_EPSILON)
        self.mlp_hidden, self.mlp_out = nn.Linear(slot_dim, mlp_dim), nn.Linear(mlp_dim, slot_dim)

    def forward(self, slots: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        scores = self.query(self.norm(slots)) @ key.transpose(1, 2) * slots.shape[-1] ** -0.5
        shares = scores.float().softmax(1) + SHARE_EPSILON
        attended = (shares / shares.sum(-1, keepdim=True)) @ value.float()
        slots = self.gru(attended.flatten(0, 1), slots.flatten(0, 1)).view_as(slots)
        return slots + self.mlp_out(self.mlp_hidden(self.mlp_norm(slots)).relu())


class SlotAttention(nn.Module):
    """Inputs to slots."""

    def __init__(self, sizes: Mapping[str, Any]):
        super().__init__()
        channels, dim = sizes["feature_dim"], sizes["slot_dim"]
        self.num_iterations, self.gradient = sizes["num_iterations"], sizes["gradient"]
        self.input_norm = nn.LayerNorm(channels, NORM_EPSILON)
        self.key, self.value = nn.Linear(channels, dim, bias=False), nn.Linear(channels, dim, bias=False)
        self.first = FirstSlots(sizes["num_slots"], dim, sizes["initializer"])
        self.update = SlotUpdate(dim, sizes["mlp_dim"])

    def forward(self, inputs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        inputs = self.input_norm(inputs)
        key, value = self.key(inputs), self.value(inputs)
        slots = first = self.first(noise)
        for iteration in range(self.num_iterations):
            if iteration == self.num_iterations - 1 and self.gradient != "full":
                slots = slots.detach()
                if self.gradient == "bilevel":
                    slots = slots + first - first.detach()
            slots = self.update(slots, key, value)
        return slots


class SlotAutoencoder(nn.Module):
    """Images from -1 to 1, colours first, to slots and back.

    Args:
        sizes: the config's model section.
    """

    def __init__(self, sizes: Mapping[str, Any], image_size: int):
        super().__init__()
        self.noise_shape = sizes["num_slots"], sizes["slot_dim"]
        encoder, decoder = dict(sizes["encoder"]), dict(sizes["decoder"])
        encoders = {"convolutions": ConvolutionEncoder, "patches": PatchEncoder}
        decoders = {"convolutions": ConvolutionDecoder, "pixels": PixelDecoder}
        self.encoder = encoders[encoder.pop("name")](**encoder)
        self.decoder = decoders[decoder.pop("name")](sizes["slot_dim"], image_size, **decoder)
        channels, features = self.encoder.num_channels, sizes["feature_dim"]
        self.positions, self.norm = SoftPositions(channels), nn.LayerNorm(channels, NORM_EPSILON)
        self.mlp_hidden, self.mlp_out = nn.Linear(channels, features), nn.Linear(features, features)
        self.slot_attention = SlotAttention(sizes)

    def forward(self, images: torch.Tensor, noise: torch.Tensor | None = None) -> Pictures:
        if noise is None:
            noise = torch.randn(len(images), *self.noise_shape, device=images.device)
        features = self.norm(self.positions(self.encoder(images)).flatten(2).transpose(1, 2))
        slots = self.slot_attention(self.mlp_out(self.mlp_hidden(features).relu()), noise)
        decoded = self.decoder(slots).float()
        recons, masks = decoded[:, :, :COLORS], decoded[:, :, COLORS:].softmax(1)
        return Pictures((recons * masks).sum(1), recons, masks)


class SlotAttentionSteps(TorchSteps):
    """Training step and forward pass in PyTorch, eager."""

    memory_format = torch.contiguous_format

    def make_model(self, setup: Mapping[str, Any]) -> SlotAutoencoder:
        """The images are the random ones that ours gets."""
        images = RandomArrays(like=setup["data"]["like"]).batch(setup["batch_size"])["image"]
        colors_first = torch.from_numpy(images).permute(0, 3, 1, 2).to(self.device)
        self.inputs = (colors_first.float() / 127.5 - 1).contiguous(memory_format=self.memory_format)
        model = SlotAutoencoder(setup["model"], images.shape[1])
        return model.to(memory_format=self.memory_format)

    def loss(self) -> torch.Tensor:
        """Mean squared error."""
        return nn.functional.mse_loss(self.outputs().image, self.inputs)

    def predict(self) -> Pictures:
        """Pictures and shares."""
        return self.outputs()


class ChannelsLastSteps(SlotAttentionSteps):
    """The same with images and kernels in memory as channels last."""

    memory_format = torch.channels_last
