# SPDX-License-Identifier: Apache-2.0
"""The loop: batches in, steps taken, and at a step in this order: update, log, evaluate, controls, attention, save.

It knows no task. The same call resumes: the newest promised checkpoint is taken up with its open logging window, its
controls and what was due and not done.
"""

import contextlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from perceiver_jax.data.pipeline import evaluation_batches, train_batches, train_plan
from perceiver_jax.metrics.history import history
from perceiver_jax.training import exchange
from perceiver_jax.training.cadence import every
from perceiver_jax.training.capture import Capture
from perceiver_jax.training.checkpoint import FILE_SIZE, Checkpoints
from perceiver_jax.training.console import Console, duration
from perceiver_jax.training.evaluation import evaluate
from perceiver_jax.training.lowering import jitted_step
from perceiver_jax.training.meter import Meter, NonFiniteError
from perceiver_jax.training.pictures import Pictures
from perceiver_jax.training.preemption import Interrupted, Preempted, Preemption
from perceiver_jax.training.profiler import Profiler
from perceiver_jax.training.settings import Training
from perceiver_jax.training.sharding import batch_share, put_batch, replicated
from perceiver_jax.training.slowest import compare_processes
from perceiver_jax.training.state import abstract_state, init_state, state_maker
from perceiver_jax.training.step import make_evaluation_step
from perceiver_jax.training.throughput import memory_peaks, throughput
from perceiver_jax.training.times import Times
from perceiver_jax.training.watchdog import Watchdog
from perceiver_jax.training.writers import Overview, Writers, count_lines

EVALUATION_SEED = 0
"""Of the random numbers in evaluation: the same for every run, so that runs compare."""


def train(
    training: Training,
    workdir: Path,
    console: Console | None = None,
    *,
    overview: Overview | None = None,
    preemption: Preemption | None = None,
    times: Times | None = None,
) -> list[dict[str, Any]]:
    """Trains, or goes on training, in `workdir`.

    Args:
        overview: what TensorBoard shows beside the curves of a new run.
        preemption: the caller's, where it listens to signals already.
        times: the caller's account of where time goes.

    Returns:
        The history: one dict per line of `metrics.jsonl`, from the first step of the run.

    Raises:
        Preempted: asked to stop by a signal; everything is saved.
        NonFiniteError: too many non-finite steps; their example ids are in `non_finite.json`.
    """
    with contextlib.nullcontext(preemption) if preemption else Preemption() as preemption:
        loop = _Loop(training, Path(workdir).absolute(), console or Console(quiet=True), preemption, times)
        return loop.run(overview)


class _Loop:
    def __init__(
        self,
        training: Training,
        workdir: Path,
        console: Console,
        preemption: Preemption,
        times: Times | None = None,
    ):
        self.training, self.settings, self.mesh = training, training.settings, training.mesh
        self.workdir, self.console, self.preemption = workdir, console, preemption
        self.controls = training.controls
        self.checkpoints = Checkpoints(
            workdir / "checkpoints",
            keep_latest=self.settings.keep_latest,
            keep_every_steps=self.settings.keep_every,
        )
        self.plan = train_plan(training.source, self.settings.batch_size, self.settings.seed)
        self.make_state = state_maker(
            training.task, training.optimizer, training.source.spec, ema=self.settings.ema_decay > 0
        )
        self.abstract_state = abstract_state(self.make_state, self.mesh)
        self.train_step = jitted_step(training, self.abstract_state)
        evaluation_step = make_evaluation_step(training.task, seed=EVALUATION_SEED)
        self.evaluation_step = jax.jit(evaluation_step, out_shardings=replicated(self.mesh))
        self.share = batch_share(self.mesh)
        self.times = times or Times(workdir)
        self.watchdog = Watchdog(workdir, self.settings.limits, spent=self.times.spent, keep=self.times.write)
        self.pictures = Pictures(training.task, training.source, "validation", self.mesh, workdir, seed=EVALUATION_SEED)
        self.capture = Capture(
            training.task,
            training.source,
            self.mesh,
            workdir,
            self.settings.attention,
            steps_per_epoch=self.settings.steps_per_epoch,
            num_steps=self.settings.num_steps,
            say=self.console.say,
        )
        self.num_files = num_files(self.abstract_state)
        self.stopped = ""
        self.profiler = Profiler(
            workdir,
            self.settings.profile_start,
            self.settings.profile_steps,
            pause=self._before_profile,
            say=self.console.say,
        )
        self.shapes: set[tuple] = set()  # of the batches that each step was compiled for

    def run(self, overview: Overview | None) -> list[dict[str, Any]]:
        try:
            with self.watchdog:
                return self._run(overview)
        finally:
            self.times.write()

    def _run(self, overview: Overview | None) -> list[dict[str, Any]]:
        progress = self._restore()
        self.meter = Meter(self.settings.max_bad_steps, progress.get("window"))
        self.stopped = progress.get("stopped", "")
        done = int(self.state.step)
        if self._finished(done, progress):
            self.checkpoints.close()
            return history(self.workdir)
        self.times.step = done
        with Writers(self.workdir, start_step=done, keep_lines=progress.get("lines")) as self.writers:
            if done == 0 and overview is not None:
                self.writers.overview(overview)
            self.capture.begin(done)
            try:
                self._keep_attention(done)
                if progress.get("evaluation_due"):
                    self._conclude(done, evaluation_due=True, promised=True)
                self._steps(done)
            except NonFiniteError as error:
                self._keep_examples(error.batches)
                raise
            finally:
                self.profiler.end(self.state)
                self.watchdog.beat("save", self.num_files)
                self.checkpoints.close()
        return history(self.workdir)

    def _keep_examples(self, batches: list[list[int]]) -> None:
        """Writes the ids of all processes' examples of these batches, once."""
        parts = zip(*exchange.gather("not finite", batches), strict=True)
        if jax.process_index() == 0:
            examples = [[example for rows in batch for example in rows] for batch in parts]
            (self.workdir / "non_finite.json").write_text(json.dumps({"examples": examples}))

    def _restore(self) -> dict[str, Any]:
        """Puts the newest promised state, or the first one, into `self.state`; returns its progress."""
        if self.checkpoints.latest() is None:
            self.state = init_state(self.make_state, self.mesh, self.settings.seed, self.training.initial)
            self.console.say("starting at step 0: no checkpoint in this folder yet")
            return {}
        self.watchdog.beat("restore", self.num_files * len(self.checkpoints.steps()))
        self.state, progress, step = self.checkpoints.restore(self.abstract_state, "latest")
        self.controls.restore(progress["controls"])
        verb = "finished" if self._finished(step, progress) else "resuming"
        self.console.say(f"{verb} at step {step} of {self.settings.num_steps}")
        return progress

    def _finished(self, done: int, progress: dict[str, Any]) -> bool:
        return bool(progress.get("stopped")) or (done >= self.settings.num_steps and not progress.get("evaluation_due"))

    def _steps(self, start: int) -> None:
        s, total = self.settings, self.settings.num_steps
        if self.stopped:
            return
        batches = train_batches(
            self.training.source,
            self.plan,
            start_step=start,
            num_steps=total,
            process_index=self.share.index,
            process_count=self.share.count,
            num_workers=s.num_workers,
            prefetch=s.prefetch,
        )
        with batches, self.console.progress(start, total), jax.set_mesh(self.mesh):
            for done in range(start + 1, total + 1):
                self.profiler.before(done, self.state)
                try:
                    self._one_step(batches, first=done == start + 1)
                except Interrupted:
                    self._preempted(done - 1, evaluation_due=False)
                self.times.step = done
                self.console.advance(done)
                due = every(done, s.evaluate_every, total)
                if every(done, s.log_every, total):
                    self._log(done)
                self._conclude(done, evaluation_due=due)
                if self.stopped:
                    self.console.say(self.stopped)
                    return

    def _one_step(self, batches, *, first: bool) -> None:
        began = time.perf_counter()
        batch = self._read(batches)
        waited = time.perf_counter() - began
        if compiles := self._compiles("step", batch):
            self.meter.stop_clock()
        rows, ready = put_batch(batch, self.mesh), time.perf_counter()
        self.state, report = self.train_step(self.state, rows)
        self.meter.push(report, batch["id"], waited, ready)
        if compiles:
            jax.block_until_ready(report)
            which = "first step" if first else "first step of another shape"
            self.console.say(f"{which}, compilation included: {duration(time.perf_counter() - began)}")
            self.meter.stop_clock()

    def _compiles(self, phase: str, batch: dict[str, np.ndarray]) -> bool:
        """Begins `phase`, or a compile if it has seen no batch of these shapes; returns whether it is one."""
        shapes = (phase, *(rows.shape for rows in batch.values()))
        compiles = shapes not in self.shapes
        self.shapes.add(shapes)
        self.watchdog.beat("compile" if compiles else phase)
        return compiles

    def _read(self, batches) -> dict[str, np.ndarray]:
        """The next batch; a signal cuts the wait short.

        Raises:
            Interrupted: asked to stop, now or before.
        """
        self.watchdog.beat("data")
        with self.preemption.together("asked to stop"):
            return next(batches)

    def _conclude(self, done: int, *, evaluation_due: bool, promised: bool = False) -> None:
        """Evaluates, lets the controls decide and saves, each when it is due.

        Args:
            promised: this step is saved already, by a run that was stopped before it could evaluate.
        """
        s, score, improved = self.settings, None, False
        if evaluation_due:
            compare_processes(done, self.meter.latest, self.writers, self.console)
            metrics = self._evaluate(done)
            score, improved = self._decide(done, metrics)
            self.meter.stop_clock()
        self._keep_attention(done)
        if promised and not self.stopped and done < s.num_steps:
            self.checkpoints.rescore(done, score)
        elif improved or self.stopped or done == s.num_steps or every(done, s.checkpoint_every, s.num_steps):
            self._save(done, score, replace=promised)
            self.meter.stop_clock()

    def _evaluate(self, done: int) -> dict[str, float]:
        s = self.settings
        batches = evaluation_batches(
            self.training.source,
            "validation",
            s.evaluation_batch_size,
            process_index=self.share.index,
            process_count=self.share.count,
        )

        def on_batch():
            self.watchdog.beat("evaluation")

        variables, reading = self.state.variables(), self._reading(batches)
        try:
            with batches:
                stats = evaluate(self.evaluation_step, variables, reading, self.mesh, on_batch)
        except Interrupted:
            self._preempted(done, evaluation_due=True)
        metrics = self.training.task.summarize(stats)
        self.writers.scalars(done, {f"validation/{name}": value for name, value in metrics.items()})
        self.watchdog.beat("compile")
        self.pictures.draw(done, variables, stats, self.writers)
        self.console.metrics(done, s.num_steps, done / s.steps_per_epoch, "validation", metrics)
        return metrics

    def _decide(self, done: int, metrics: dict[str, float]) -> tuple[float, bool]:
        improved = self.controls.best.update(done, metrics)
        if self.controls.plateau.update(metrics):
            scale = self.controls.plateau.scale(float(self.state.lr_scale))
            self.state = self.state.replace(
                lr_scale=jax.device_put(np.float32(scale), self.abstract_state.lr_scale.sharding)
            )
            self.console.say(
                f"step {done}: {self.controls.plateau.metric} has stopped improving; rate x {scale:g} from here"
            )
        if self.controls.early_stopping.update(metrics):
            self.stopped = f"stopped early at step {done}: {self.controls.early_stopping.metric} has stopped improving"
        return self.controls.best.score(metrics), improved

    def _keep_attention(self, done: int) -> None:
        if self.capture.due(done, last=bool(self.stopped)):
            self.watchdog.beat("compile")
            self.capture.keep(done, self.state.variables(), self.writers)
            self.meter.stop_clock()

    def _log(self, done: int) -> None:
        stats, timing = self.meter.take()
        metrics = self.training.task.summarize(stats) | {"learning_rate": self.meter.learning_rate}
        if timing:
            rates = throughput(self.settings.batch_size, timing["step_time"], self.training.flops_per_example)
            metrics |= timing | rates | memory_peaks()
        self.times.write()
        self.writers.scalars(done, {f"train/{name}": value for name, value in metrics.items()})
        epoch = done / self.settings.steps_per_epoch
        self.console.metrics(done, self.settings.num_steps, epoch, "train", metrics)

    def _reading(self, batches) -> Iterator[dict[str, np.ndarray]]:
        """The batches of an evaluation; a shape compiles once for all evaluations."""
        for _ in range(batches.num_batches):
            batch = self._read(batches)
            self._compiles("evaluation", batch)
            yield batch

    def _save(self, done: int, score: float | None = None, *, replace: bool = False, **more: Any) -> None:
        self.watchdog.beat("save", 2 * self.num_files)  # the one before may have to be finished first
        self.writers.flush()
        progress = {
            "controls": self.controls.state(),
            "window": self.meter.state(),
            "lines": count_lines(self.workdir),
            "stopped": self.stopped,
            **more,
        }
        self.checkpoints.save(done, self.state, progress, score, replace=replace)

    def _before_profile(self) -> None:
        self.watchdog.beat("profile")
        self.meter.stop_clock()

    def _preempted(self, done: int, *, evaluation_due: bool) -> NoReturn:
        if done == 0:
            raise Preempted("preempted at step 0: there is nothing to save yet; run the same command to start again")
        self._save(done, evaluation_due=evaluation_due)
        self.checkpoints.wait()
        raise Preempted(f"preempted at step {done}, saved; run the same command to go on")


def num_files(state: Any) -> int:
    """Files of `FILE_SIZE` that a checkpoint of the state fills."""
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return math.ceil(size / FILE_SIZE)
