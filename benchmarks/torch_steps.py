# SPDX-License-Identifier: Apache-2.0
"""What the peers in PyTorch share: a step (forward, loss, backward, clipping, Adam), a forward pass, their times."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from benchmarks import measure

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class TorchSteps:
    """Training step and forward pass, eager; a peer gives the model, its loss and its predictions.

    Args:
        setup: the resolved config on random arrays.
    """

    compiled = False
    packages = ("torch",)

    def __init__(self, setup: Mapping[str, Any]):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32, as JAX's default
        torch.manual_seed(0)
        self.dtype = getattr(torch, setup["model"]["dtype"])
        self.model = self.make_model(setup).to(self.device)
        self.network = torch.compile(self.model) if self.compiled else self.model
        optimizer = setup["optimizer"]
        self.clip_norm, decay = optimizer["clip_norm"], optimizer["weight_decay"]
        make = OPTIMIZERS[optimizer["name"]]
        self.optimizer = make(self.model.parameters(), optimizer["learning_rate"], weight_decay=decay, fused=True)

    def make_model(self, setup: Mapping[str, Any]) -> nn.Module:
        """The model; inputs are made here too, and moved to the device."""
        raise NotImplementedError

    def loss(self) -> torch.Tensor:
        """Of the batch."""
        raise NotImplementedError

    def predict(self) -> Any:
        """What a forward pass ends with."""
        raise NotImplementedError

    def outputs(self) -> Any:
        """The model's, of the batch."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.network(self.inputs)

    def describe(self) -> dict[str, Any]:
        """Number of parameters, device, versions, threads."""
        on_gpu = self.device.type == "cuda"
        kind = torch.cuda.get_device_name() if on_gpu else "cpu"
        return {
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "versions": measure.versions(*self.packages),
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
        self.loss().backward()
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()

    @torch.inference_mode()
    def _forward(self) -> None:
        self.network.eval()
        self.predict()

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def memory(self) -> dict[str, float | None]:
        """MB at the peak: of the process, and of its share of the accelerator."""
        device = torch.cuda.max_memory_allocated() / 1e6 if self.device.type == "cuda" else None
        return {"process": measure.peak_memory(), "device": device}
