# SPDX-License-Identifier: Apache-2.0
"""The same Perceiver from Hugging Face transformers' PyTorch layers: `--peer=hf`. Imported only when asked for.

`PerceiverLayer` (pre-norm cross- and self-attention with its MLP) in the order and with the shared weights of the
config; mean pooling and a linear classifier; the input's position features come precomputed. A step is forward, loss,
backward, clipping and AdamW.
"""

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PerceiverConfig
from transformers.models.perceiver.modeling_perceiver import PerceiverLayer

from benchmarks import measure
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


class HfSteps:
    """Training step and forward pass in PyTorch, eager.

    Args:
        setup: the resolved config on random arrays, and `adapted_shape`, what our adapter makes of an input.
    """

    compiled = False

    def __init__(self, setup: Mapping[str, Any]):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32, as JAX's default
        spec = Spec.from_dict(setup["data"]["like"])
        if "label" not in spec.arrays or "mask" in spec.arrays:
            raise ConfigError("this peer classifies inputs of one length: the config's data has a mask or no label.")
        torch.manual_seed(0)
        length, channels = setup["adapted_shape"]
        self.inputs = torch.randn(setup["batch_size"], length, channels, device=self.device)
        self.labels = torch.arange(setup["batch_size"], device=self.device) % len(spec.class_names)
        self.model = HfPerceiver(setup["model"], channels, len(spec.class_names)).to(self.device)
        self.network = torch.compile(self.model) if self.compiled else self.model
        self.dtype = getattr(torch, setup["model"]["dtype"])
        self.smoothing = setup["task"].get("label_smoothing", 0.0)
        optimizer = setup["optimizer"]
        self.clip_norm = optimizer["clip_norm"]
        rate, decay = optimizer["learning_rate"], optimizer["weight_decay"]
        self.optimizer = torch.optim.AdamW(self.model.parameters(), rate, weight_decay=decay, fused=True)

    def describe(self) -> dict[str, Any]:
        """Number of parameters, device, versions, threads."""
        on_gpu = self.device.type == "cuda"
        kind = torch.cuda.get_device_name() if on_gpu else "cpu"
        return {
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "versions": measure.versions("torch", "transformers"),
            "threads": torch.get_num_threads(),
            "device": {"platform": "gpu" if on_gpu else "cpu", "kind": kind, "count": 1},
        }

    def compile(self) -> dict[str, float | None]:
        """Seconds of the first calls where torch.compile is used; eager PyTorch compiles nothing."""
        taken = {what: self.burst(what, 1) for what in ("step", "forward")}
        return taken if self.compiled else dict.fromkeys(taken)

    def burst(self, what: str, count: int) -> float:
        """Seconds of one of `count` steps or forward passes in a row."""
        call = self._step if what == "step" else self._forward
        self._wait()
        began = time.perf_counter()
        for _ in range(count):
            call()
        self._wait()
        return (time.perf_counter() - began) / count

    def _step(self) -> None:
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        logits = self._logits()
        nn.functional.cross_entropy(logits, self.labels, label_smoothing=self.smoothing).backward()
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()

    @torch.inference_mode()
    def _forward(self) -> None:
        self.network.eval()
        self._logits().softmax(-1)

    def _logits(self) -> torch.Tensor:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.network(self.inputs)
        return logits.float()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def memory(self) -> dict[str, float | None]:
        """MB at the peak: of the process, and of its share of the accelerator."""
        device = torch.cuda.max_memory_allocated() / 1e6 if self.device.type == "cuda" else None
        return {"process": measure.peak_memory(), "device": device}


class CompiledHfSteps(HfSteps):
    """The same by torch.compile."""

    compiled = True
