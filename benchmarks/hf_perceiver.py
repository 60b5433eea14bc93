# SPDX-License-Identifier: Apache-2.0
"""The same Perceiver from Hugging Face transformers' PyTorch layers: `--peer=hf`. Imported only when asked for.

`PerceiverLayer` (pre-norm cross- and self-attention with its MLP) in the order and with the shared weights of the
config; mean pooling and a linear classifier; the input's position features come precomputed. A step is forward, loss,
backward, clipping and AdamW.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PerceiverConfig
from transformers.models.perceiver.modeling_perceiver import PerceiverLayer

from benchmarks.torch_steps import TorchSteps
from perceiver_jax.data.spec import Spec
from perceiver_jax.errors import ConfigError
from perceiver_jax.models.perceiver import weights_of


class HfPerceiver(nn.Module):
    """A Perceiver of `PerceiverLayer`s.

    Args:
        sizes: the config's model section.
        channels: of the adapted input.
    """

    def __init__(self, sizes: Mapping[str, Any], channels: int, num_classes: int):
        super().__init__()
        dim, crosses, blocks = sizes["latent_dim"], sizes["num_cross_attends"], sizes["num_blocks"]
        self.latents = nn.Parameter(0.02 * torch.randn(sizes["num_latents"], dim))
        self.cross_of = weights_of(sizes["share_cross_attends"], crosses)
        self.block_of = weights_of(sizes["share_blocks"], blocks)
        self.blocks_per_stage = blocks // crosses
        self.crosses = nn.ModuleList(_cross_layer(sizes, channels) for _ in set(self.cross_of))
        layers = sizes["num_self_attends_per_block"]
        self.blocks = nn.ModuleList(
            nn.ModuleList(_self_layer(sizes) for _ in range(layers)) for _ in set(self.block_of)
        )
        self.head = nn.Linear(dim, num_classes)
        self.pooling = sizes["pooling"]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(batch, length, channels) to logits."""
        latents = self.latents.expand(len(inputs), -1, -1)
        for stage, cross in enumerate(self.cross_of):
            latents = self.crosses[cross](latents, inputs=inputs)[0]
            first = stage * self.blocks_per_stage
            for block in self.block_of[first : first + self.blocks_per_stage]:
                for layer in self.blocks[block]:
                    latents = layer(latents)[0]
        return self.head(latents[:, 0] if self.pooling == "latent" else latents.mean(dim=1))


def _cross_layer(sizes: Mapping[str, Any], channels: int) -> PerceiverLayer:
    dim = sizes["latent_dim"]
    width = dim if sizes["cross_attend_width"] == "latents" else channels
    return PerceiverLayer(
        _layer_config(sizes),
        is_cross_attention=True,
        qk_channels=width,
        v_channels=width,
        num_heads=sizes["num_cross_attend_heads"],
        q_dim=dim,
        kv_dim=channels,
        widening_factor=sizes["cross_attend_widening_factor"],
        use_query_residual=True,
    )


def _self_layer(sizes: Mapping[str, Any]) -> PerceiverLayer:
    dim = sizes["latent_dim"]
    return PerceiverLayer(
        _layer_config(sizes),
        is_cross_attention=False,
        qk_channels=dim,
        v_channels=dim,
        num_heads=sizes["num_self_attend_heads"],
        q_dim=dim,
        kv_dim=dim,
        widening_factor=sizes["self_attend_widening_factor"],
        use_query_residual=True,
    )


def _layer_config(sizes: Mapping[str, Any]) -> PerceiverConfig:
    activation = "gelu" if sizes["exact_gelu"] else "gelu_pytorch_tanh"
    return PerceiverConfig(hidden_act=activation, attention_probs_dropout_prob=0.0)


class HfSteps(TorchSteps):
    """Training step and forward pass in PyTorch, eager.

    Args:
        setup: the resolved config on random arrays, and `adapted_shape`, what our adapter makes of an input.
    """

    packages = ("torch", "transformers")

    def make_model(self, setup: Mapping[str, Any]) -> HfPerceiver:
        """Inputs have their position features already."""
        spec = Spec.from_dict(setup["data"]["like"])
        if "label" not in spec.arrays or "mask" in spec.arrays:
            raise ConfigError("this peer classifies inputs of one length: the config's data has a mask or no label.")
        length, channels = setup["adapted_shape"]
        self.inputs = torch.randn(setup["batch_size"], length, channels, device=self.device)
        self.labels = torch.arange(setup["batch_size"], device=self.device) % len(spec.class_names)
        self.smoothing = setup["task"].get("label_smoothing", 0.0)
        return HfPerceiver(setup["model"], channels, len(spec.class_names))

    def loss(self) -> torch.Tensor:
        """Cross-entropy."""
        return nn.functional.cross_entropy(self.outputs().float(), self.labels, label_smoothing=self.smoothing)

    def predict(self) -> torch.Tensor:
        """Probabilities."""
        return self.outputs().float().softmax(-1)


class CompiledHfSteps(HfSteps):
    """The same by torch.compile."""

    compiled = True
