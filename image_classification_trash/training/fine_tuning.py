"""The second stage of training: the whole network, with Lightning.

An epoch depends only on its initial weights, the seed and its number: shuffling, augmentation and dropout are reseeded at its
start. A run that is killed and resumed from its last checkpoint therefore ends with the same weights.
"""

import copy
import functools
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    WeightAveraging,
)
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader
from tqdm import tqdm

from image_classification_trash.config.training import TrainSettings
from image_classification_trash.errors import DivergedError
from image_classification_trash.evaluation.metrics import macro_f1
from image_classification_trash.evaluation.result import StartComparison
from image_classification_trash.features.augmentation import Augmentation, mixup
from image_classification_trash.files import write_text
from image_classification_trash.networks.device import machines_and_devices, training_device
from image_classification_trash.networks.network import PIECE, TrashNetwork, to_planes
from image_classification_trash.show import line, say
from image_classification_trash.tracking.wandb_tracker import Tracker
from image_classification_trash.training.batches import Batch, OrderedBatches, Shuffled, SplitPhotos, batches
from image_classification_trash.training.checkpoints import (
    CHECKPOINTS,
    CONDITIONS,
    HISTORY,
    LAST,
    follow_move,
    history_csv,
    read_checkpoint,
)
from image_classification_trash.training.linear_head import class_weights
from image_classification_trash.training.scores import validation_scores
from image_classification_trash.training.weight_averaging import warm_average, wise_ft

MONITOR = "val_macro_f1"
AFTERWARDS = 20.0
"""Seconds kept for what follows fine-tuning under a time limit: calibration, evaluation and the report."""


@dataclass(frozen=True)
class FineTuned:
    """What fine-tuning did.

    Attributes:
        history: one row per epoch, numbered from 1; row 0 has the scores of the start if it was a candidate.
        comparison: of the start and the best epoch; None if the start was no candidate.
    """

    history: Sequence[Mapping[str, float]]
    comparison: StartComparison | None


class FineTuning(pl.LightningModule):
    """The training and validation steps, the metrics of an epoch, and the learning-rate schedule."""

    class_weights: torch.Tensor

    def __init__(
        self,
        network: TrashNetwork,
        train: SplitPhotos,
        val: SplitPhotos,
        settings: TrainSettings,
        teachers: Sequence[TrashNetwork] = (),
        conditions: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self._conditions = dict(conditions or {})
        self.start: list[dict[str, float]] = []  # one row, epoch 0, if the initial weights are a candidate
        self.history: list[dict[str, float]] = []
        self._train, self._val = train, val
        weights = class_weights(train.y_true, network.classes, settings.class_weighting, train.weights)
        self.register_buffer("class_weights", torch.tensor(weights, dtype=torch.float32), persistent=False)
        chosen = settings.model_dump(include=set(Augmentation.__dataclass_fields__))
        self._augment = Augmentation(settings.input_height, settings.input_width, **chosen)
        self._generator = torch.Generator()
        self._train_losses: list[torch.Tensor] = []
        self._val_outputs: list[Batch] = []
        self._frozen = network.stages()[: settings.freeze_stages]
        for stage in self._frozen:
            stage.requires_grad_(False)
        self._teachers = tuple(teachers)  # a tuple, so that torch does not register them as submodules
        self._began, self._seconds_before = time.perf_counter(), 0.0

    def train(self, mode: bool = True) -> "FineTuning":
        """Switch to training mode, except for frozen stages, whose batch statistics must not change."""
        super().train(mode)
        for stage in self._frozen:
            stage.eval()
        return self

    def on_fit_start(self) -> None:
        """Move the teachers to the device, and run frozen stages in pieces: their activations are the largest."""
        for teacher in self._teachers:
            teacher.to(self.device).eval()
        for stage in self._frozen:
            stage.forward = functools.partial(_in_pieces, stage.forward)

    def on_fit_end(self) -> None:
        """Restore the forward of the frozen stages."""
        for stage in self._frozen:
            del stage.forward

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return batches whose order depends only on the seed and the epoch."""
        workers = worker_count(self.settings.workers, self.settings.accelerator)
        return batches(self._train, self._order(), workers)

    def _order(self) -> Shuffled:
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        return Shuffled(
            len(self._train.y_true),
            self.settings.batch_size,
            lambda: self._seed(0),
            rank,
            processes,
            self._train.weights,
        )

    def val_dataloader(self) -> OrderedBatches:
        """Return the whole validation split, in every process."""
        return OrderedBatches(self._val, self.settings.batch_size)

    def on_train_start(self) -> None:
        """Set the learning rates by this run's schedule: a resumed run may have more epochs than its checkpoint."""
        schedule = self.lr_schedulers()
        assert isinstance(schedule, torch.optim.lr_scheduler.LambdaLR)
        for group, base, factor in zip(
            schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
        ):
            group["lr"] = base * factor(schedule.last_epoch)

    def on_train_epoch_start(self) -> None:
        """Seed the augmentation and dropout of this epoch."""
        self._train_losses.clear()
        self._generator.manual_seed(self._seed(1 + self.global_rank))
        torch.manual_seed(self._seed(1001 + self.global_rank))

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        """Augment and mix a batch; return the class-weighted loss against smoothed targets."""
        photos, y_true = batch
        x = self._augment(photos, self._generator)
        targets = F.one_hot(y_true, len(self.class_weights)).float()
        targets = (
            targets * (1 - self.settings.label_smoothing) + self.settings.label_smoothing / targets.shape[1]
        )
        x, targets = mixup(x, targets, self.settings.mixup, self._generator)
        if self._teachers:
            targets = torch.lerp(
                targets, teacher_probabilities(self._teachers, x), self.settings.distillation_weight
            )
        x, targets, weight = self._with_backgrounds(x, targets, self.class_weights[y_true])
        scores = self.network.logits(x)
        loss = (F.cross_entropy(scores, targets, reduction="none") * weight).mean()
        self._train_losses.append(loss.detach())
        self.log("loss", loss, prog_bar=True, logger=False)
        return loss

    def _with_backgrounds(
        self, x: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Append backgrounds with uniform targets to the batch (outlier exposure, Hendrycks et al., 2019)."""
        count = round(len(x) * self.settings.outliers)
        if self._train.backgrounds is None or not count:
            return x, targets, weight
        chosen = torch.randint(len(self._train.backgrounds), (count,), generator=self._generator)
        backgrounds = torch.from_numpy(self._train.backgrounds[chosen.numpy()]).to(x.device)
        uniform = torch.full((count, targets.shape[1]), 1 / targets.shape[1], device=x.device)
        x = torch.cat([x, self._augment(backgrounds, self._generator)])
        return (
            x,
            torch.cat([targets, uniform]),
            torch.cat([weight, torch.full((count,), 0.5, device=x.device)]),
        )

    def validation_step(self, batch: Batch, index: int) -> None:
        """Collect scores and labels until the end of the epoch."""
        photos, y_true = batch
        self._val_outputs.append((self.network.logits(to_planes(photos)).float().cpu(), y_true.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Compute the metrics of the epoch, and stop a diverged training before its checkpoint is written.

        Raises:
            DivergedError: the mean training loss or the validation loss is NaN or infinite, in any process.
        """
        scores, y_true = (torch.cat(column) for column in zip(*self._val_outputs, strict=True))
        self._val_outputs.clear()
        measured = validation_figures(scores, y_true)
        self.log_dict(measured, prog_bar=True, sync_dist=True)
        if not self.trainer.sanity_checking and self._train_losses:
            rate = float(self.optimizers().param_groups[-1]["lr"])  # type: ignore[union-attr]
            losses = {"train_loss": float(torch.stack(self._train_losses).mean()), "learning_rate": rate}
            finite = math.isfinite(losses["train_loss"]) and math.isfinite(measured["val_loss"])
            if not self.trainer.strategy.reduce_boolean_decision(finite):
                raise DivergedError(
                    f"The training diverged in epoch {self.current_epoch + 1}: the training loss is "
                    f"{losses['train_loss']:.4g}, the validation loss {measured['val_loss']:.4g}.",
                    "Lower --learning-rate, raise --warmup-epochs, or check the photos.",
                )
            self.log_dict(losses, sync_dist=True)
            self.history.append({"epoch": self.current_epoch + 1.0, **losses, **measured})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the history, the time spent, and what the run is made with, so that another run's checkpoint is refused."""
        checkpoint["history"] = self.history
        checkpoint["seconds"] = self._seconds_before + time.perf_counter() - self._began
        checkpoint["architecture"] = self.network.architecture
        checkpoint[CONDITIONS] = self._conditions

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the history and the time spent, and the paths of a project that was moved."""
        follow_move(checkpoint, self.trainer.checkpoint_callbacks)
        self.history = list(checkpoint["history"])
        if self.history and self.history[0]["epoch"] == 0:  # earlier versions numbered epochs from 0
            self.history = [{**row, "epoch": row["epoch"] + 1} for row in self.history]
        self._seconds_before = checkpoint.get("seconds", 0.0)  # missing in checkpoints of earlier versions

    def configure_optimizers(self) -> Any:
        """Return AdamW with separate rates for backbone and head, and a schedule by step: warm-up, then cosine."""
        optimizer = torch.optim.AdamW(self._parameter_groups(), lr=self.settings.learning_rate)
        per_epoch = len(self._order())
        warmup, total = self.settings.warmup_epochs * per_epoch, self.settings.epochs * per_epoch

        def factor(step: int) -> float:
            rise = min(1.0, (step + 1) / max(1.0, warmup))
            return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, total))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _parameter_groups(self) -> list[dict[str, Any]]:
        groups = []
        head_rate = self.settings.learning_rate
        for part, rate in (
            (self.network.backbone, head_rate * self.settings.backbone_rate),
            (self.network.head, head_rate),
        ):
            trained = [parameter for parameter in part.parameters() if parameter.requires_grad]
            for matrices, decay in ((True, self.settings.weight_decay), (False, 0.0)):
                chosen = [parameter for parameter in trained if (parameter.ndim > 1) == matrices]
                if chosen:
                    groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
        return groups

    def _seed(self, stream: int) -> int:
        return int(
            np.random.SeedSequence([self.settings.seed, self.current_epoch, stream]).generate_state(1)[0]
        )


def validation_figures(scores: torch.Tensor, y_true: torch.Tensor) -> dict[str, float]:
    """Return loss, accuracy and macro F1 of validation photos: scores, float (N, C), and class numbers, int64 (N,)."""
    y_pred = scores.argmax(1)
    return {
        "val_loss": float(F.cross_entropy(scores, y_true)),
        "val_accuracy": float((y_pred == y_true).float().mean()),
        MONITOR: macro_f1(y_true.numpy(), y_pred.numpy()),
    }


def teacher_probabilities(teachers: Sequence[TrashNetwork], x: torch.Tensor) -> torch.Tensor:
    """Return the mean of the teachers' calibrated probabilities, float32 (B, C), for float photos (B, 3, H, W), 0 to 255.

    Teachers see the same augmented photos as the network (Beyer et al., 2022, "A good teacher is patient and consistent").
    """
    with torch.no_grad():
        shares = [one.class_probabilities(_in_pieces(one.logits, x).float()) for one in teachers]
        return torch.stack(shares).mean(0)


class HistoryFile(Callback):
    """Writes the history as CSV after every epoch."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / HISTORY

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file after each validation, in the first process only."""
        assert isinstance(pl_module, FineTuning)
        if trainer.is_global_zero and pl_module.history:
            write_text(self._file, history_csv([*pl_module.start, *pl_module.history]))


class TrackedEpochs(Callback):
    """Logs every epoch to the tracker, and the scores of the start as epoch 0."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the start in the first process, unless the run resumes."""
        assert isinstance(pl_module, FineTuning)
        if trainer.is_global_zero and pl_module.start and not pl_module.history:
            self._tracker.log_epoch(pl_module.start[0])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log after each validation, in the first process only."""
        assert isinstance(pl_module, FineTuning)
        if trainer.is_global_zero and pl_module.history:
            backbone = float(trainer.optimizers[0].param_groups[0]["lr"])
            self._tracker.log_epoch({**pl_module.history[-1], "learning_rate_backbone": backbone})


class Splits(Protocol):
    """The photos that fine-tuning reads; accessed only if there is an epoch to train."""

    @property
    def train(self) -> SplitPhotos:
        """Photos to train on, larger than the input."""
        ...

    @property
    def selection(self) -> SplitPhotos:
        """Photos at the input size that select the best epoch."""
        ...


def fine_tune(
    network: TrashNetwork,
    data: Splits,
    settings: TrainSettings,
    folder: Path,
    tracker: Tracker,
    teachers: Sequence[TrashNetwork] = (),
    conditions: Mapping[str, Any] | None = None,
    start: str | None = None,
    until: float | None = None,
) -> FineTuned | None:
    """Fine-tune `network` in place; it ends with the weights of the best epoch, or its own if no epoch improved on them.

    Args:
        network: network to train.
        data: photos to train on and to select the best epoch by.
        settings: of the training; with `epochs` 0 nothing happens.
        folder: for logs and checkpoints.
        tracker: logs every epoch.
        teachers: networks whose probabilities are distilled.
        conditions: data and settings of the run, kept in its checkpoints for `check_resumable`.
        start: what the initial weights are, such as "fitted head"; None if they do not classify and are no candidate.
        until: when to be done with the whole run, on `time.perf_counter`; None for no limit.

    Returns:
        The history and the comparison with the start; None in all processes but the first.

    Raises:
        DivergedError: a loss is NaN or infinite at the end of an epoch.
    """
    if settings.epochs and until is not None:
        fits = epochs_that_fit(network, data, settings, until)
        settings = settings.model_copy(update={"epochs": max(fits, int(start is None))})
    if not settings.epochs:
        return FineTuned([], None)
    initial = {name: value.clone() for name, value in network.state_dict().items()}
    module = FineTuning(network, data.train, data.selection, settings, teachers, conditions)
    if start:
        module.start = [{"epoch": 0.0, **measure(network, data.selection)}]
    best = _fit(module, folder, tracker, until)
    if best is None:
        return None
    network.load_state_dict(wise_ft(initial, best, settings.wise_ft))
    if start is None:
        return FineTuned(module.history, None)
    comparison = keep_better(network, initial, module, data.selection, start)
    return FineTuned([*module.start, *module.history], comparison)


def keep_better(
    network: TrashNetwork,
    initial: Mapping[str, torch.Tensor],
    module: FineTuning,
    selection: SplitPhotos,
    start: str,
) -> StartComparison:
    """Restore the initial weights of a fine-tuned network unless it improved on them; return the comparison.

    Args:
        network: with the weights of the best epoch, or of its average with the start.
        initial: weights of the start.
        module: the fine-tuning, with its history and the figures of the start.
        selection: photos that select the best epoch.
        start: what the initial weights are.
    """
    row = max(module.history, key=lambda row: row[MONITOR])
    before, after = module.start[0][MONITOR], row[MONITOR]
    if module.settings.wise_ft < 1:
        after = measure(network, selection)[MONITOR]
    if after <= before:
        network.load_state_dict(initial)
    return StartComparison(start, before, after, int(row["epoch"]) if after > before else 0)


class TimeLimit(Callback):
    """Stops after an epoch if another one would not end in time."""

    def __init__(self, until: float) -> None:
        self._until, self._began = until, 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of an epoch."""
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop if there is no time for as long again and for what follows."""
        now, last = time.perf_counter(), trainer.current_epoch + 1 >= (trainer.max_epochs or 0)
        if not last and now + (now - self._began) + AFTERWARDS > self._until:
            say(f"stopped by the time limit after epoch {trainer.current_epoch + 1}")
            trainer.should_stop = True


def epochs_that_fit(network: TrashNetwork, data: Splits, settings: TrainSettings, until: float) -> int:
    """Return how many epochs, of those in the settings, fit before `until`, by the measured time of two batches; say so."""
    device = training_device(settings.accelerator)
    copied = FineTuning(copy.deepcopy(network).to(device), data.train, data.selection, settings)
    copied.train()
    photos = torch.from_numpy(np.array(data.train.pixels[: settings.batch_size])).to(device)
    y_true = torch.from_numpy(np.array(data.train.y_true[: settings.batch_size])).to(device)
    augment = copied._augment
    seconds = 0.0
    for _ in range(2):  # the first one warms up
        began = time.perf_counter()
        scores = copied.network.logits(augment(photos, torch.Generator().manual_seed(0)))
        F.cross_entropy(scores, y_true).backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    # A photo of validation costs a forward pass, a third of a training step.
    an_epoch = seconds * (len(data.train.y_true) + len(data.selection.y_true) / 3) / len(y_true)
    left = until - time.perf_counter() - AFTERWARDS
    fit = max(0, min(settings.epochs, int(left / an_epoch)))
    say(
        f"time limit: {max(0.0, left):.0f} s are left for fine-tuning, an epoch takes about {an_epoch:.1f} s: {fit} of "
        f"{settings.epochs} epochs{'' if fit else ', so the model is the head alone'}"
    )
    return fit


def measure(network: TrashNetwork, photos: SplitPhotos) -> dict[str, float]:
    """Return the figures of an epoch's validation for a network, which ends in evaluation mode on the CPU."""
    scores, _ = validation_scores(network, photos)
    return validation_figures(torch.from_numpy(scores), torch.from_numpy(photos.y_true))


def _fit(
    module: FineTuning, folder: Path, tracker: Tracker, until: float | None
) -> dict[str, torch.Tensor] | None:
    """Run all epochs; return the network's weights in the best, or None in all processes but the first."""
    settings, checkpoints = module.settings, folder / CHECKPOINTS
    best = ModelCheckpoint(
        checkpoints, filename="best", monitor=MONITOR, mode="max", enable_version_counter=False
    )
    # `save_last` writes only when an epoch is the best so far: a killed run would lose all epochs since then.
    latest = ModelCheckpoint(checkpoints, filename="last", enable_version_counter=False)
    module.train()  # Lightning keeps the mode it finds: evaluation mode, after photos were embedded for the head
    _quieten()
    average = [WeightAveraging(multi_avg_fn=warm_average(settings.ema_decay))] if settings.ema_decay else []
    stop = EarlyStopping(MONITOR, mode="max", patience=settings.patience)
    callbacks = [TrackedEpochs(tracker), HistoryFile(folder), stop, EpochTable(), *average, best, latest]
    if until is not None:
        callbacks.append(TimeLimit(until))
    trainer = _trainer(settings, folder, callbacks)
    trainer.fit(module, ckpt_path=checkpoints / LAST if settings.resume else None, weights_only=True)
    if not trainer.is_global_zero:
        return None
    if stop.stopped_epoch:
        say(f"stopped early: no better macro F1 on validation for {settings.patience} epochs")
    kept = max(module.history, key=lambda row: row[MONITOR])
    say(f"best epoch: {int(kept['epoch'])}, macro F1 {kept[MONITOR]:.1%} on validation")
    state = read_checkpoint(Path(best.best_model_path))["state_dict"]
    prefix = "network."
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _quieten() -> None:
    """Silence Lightning's notices about what is intended: frozen stages, our own loaders, resuming; and its tips.

    TensorBoard's writer would import TensorFlow, which logs and takes seconds, where it is installed; this module tells it not to.
    """
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for notice in (
        ".*in eval mode at the start of training.*",
        ".*does not have many workers.*",
        ".*treespec.*",
        "Checkpoint directory .* exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", notice)


class EpochTable(Callback):
    """Writes a line per epoch to standard error, with the time left for all of them; a bar within an epoch only in a terminal."""

    columns = ("epoch", "loss", "val loss", "val accuracy", "val macro F1", "seconds", "time left")

    def __init__(self) -> None:
        self._began = self._epoch_began = 0.0
        self._epochs_before = 0
        self._bar: tqdm[Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the header, in the first process only, as everything here."""
        self._began, self._epochs_before = time.perf_counter(), trainer.current_epoch
        if trainer.is_global_zero:
            say("  ".join(self.columns))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of an epoch, and its bar."""
        self._epoch_began = time.perf_counter()
        if trainer.is_global_zero:
            count, name = int(trainer.num_training_batches), f"epoch {trainer.current_epoch + 1}"
            self._bar = tqdm(total=count, desc=name, unit="batch", leave=False, disable=None)

    def on_train_batch_end(self, *arguments: Any) -> None:
        """Advance the bar."""
        if self._bar is not None:
            self._bar.update()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the line of an epoch."""
        assert isinstance(pl_module, FineTuning)
        if not trainer.is_global_zero or not pl_module.history or self._bar is None:
            return
        self._bar.close()
        row, now = pl_module.history[-1], time.perf_counter()
        done, total = int(row["epoch"]), pl_module.settings.epochs
        left = (now - self._began) / max(1, done - self._epochs_before) * (total - done)
        cells = (
            f"{done}/{total}",
            f"{row['train_loss']:.3f}",
            f"{row['val_loss']:.3f}",
            f"{row['val_accuracy']:.1%}",
            f"{row[MONITOR]:.1%}",
            f"{now - self._epoch_began:.1f}",
            tqdm.format_interval(left),
        )
        say(line(cells, [len(column) for column in self.columns]))

    def on_exception(self, *arguments: Any) -> None:
        """Remove the bar, so that the error has a line of its own."""
        if self._bar is not None:
            self._bar.close()


def _trainer(settings: TrainSettings, folder: Path, callbacks: list[Callback]) -> pl.Trainer:
    device = training_device(settings.accelerator).type
    machines, devices = machines_and_devices(settings.devices)
    return pl.Trainer(
        accelerator=device if settings.accelerator == "auto" else settings.accelerator,
        devices=devices,
        num_nodes=machines,
        strategy="ddp" if machines * devices > 1 else "auto",
        precision="bf16-mixed" if device == "cuda" else "32-true",
        benchmark=device == "cuda",
        max_epochs=settings.epochs,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=TensorBoardLogger(folder, name="tensorboard", version=""),
        log_every_n_steps=1,
        enable_model_summary=False,
        enable_progress_bar=False,
    )


def worker_count(workers: int | None, accelerator: str) -> int:
    """Return the number of processes that load batches: as set, else up to 8 with a GPU and 0 on a CPU."""
    if workers is not None:
        return workers
    return min(8, os.cpu_count() or 1) if training_device(accelerator).type == "cuda" else 0


def _in_pieces(forward: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Run a stage piece by piece on a CPU, which saves memory; at once on an accelerator, which is faster."""
    if x.device.type != "cpu" or len(x) <= PIECE:
        return forward(x)
    return torch.cat([forward(piece) for piece in torch.split(x, PIECE)])
