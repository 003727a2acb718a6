"""The second stage of training: the whole network, with Lightning.

An epoch is a function of the weights it starts from, the seed and its number: shuffling, augmentation and dropout are
seeded anew at its start. So a run that was killed and resumed from its last checkpoint ends with the same weights.
"""

import contextlib
import functools
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    TQDMProgressBar,
    WeightAveraging,
)
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader

from image_classification_trash.config.training import TrainSettings
from image_classification_trash.errors import DivergedError
from image_classification_trash.evaluation.metrics import macro_f1
from image_classification_trash.features.augmentation import Augmentation, mixup
from image_classification_trash.files import write_text
from image_classification_trash.networks.device import training_device
from image_classification_trash.networks.network import PIECE, TrashNetwork, to_planes
from image_classification_trash.tracking.wandb_tracker import Tracker
from image_classification_trash.training.batches import Batch, OrderedBatches, Shuffled, SplitPhotos, batches
from image_classification_trash.training.checkpoints import (
    CHECKPOINTS,
    CONDITIONS,
    HISTORY,
    LAST,
    history_csv,
    read_checkpoint,
)
from image_classification_trash.training.linear_head import class_weights
from image_classification_trash.training.weight_averaging import warm_average, wise_ft

MONITOR = "val_macro_f1"


class FineTuning(pl.LightningModule):
    """What happens in a step, after an epoch, and to the learning rate."""

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
        self.history: list[dict[str, float]] = []
        self._train, self._val = train, val
        weights = class_weights(train.y_true, network.classes, settings.class_weighting)
        self.register_buffer("class_weights", torch.tensor(weights, dtype=torch.float32), persistent=False)
        chosen = settings.model_dump(include=set(Augmentation.__dataclass_fields__))
        self._augment = Augmentation(settings.input_height, settings.input_width, **chosen)
        self._generator = torch.Generator()
        self._train_losses: list[torch.Tensor] = []
        self._val_outputs: list[Batch] = []
        self._frozen = _freeze(network, settings.freeze_stages)
        self._teachers = tuple(teachers)  # a tuple, so that they are no part of this module's weights
        self._began, self._seconds_before = time.perf_counter(), 0.0

    def train(self, mode: bool = True) -> "FineTuning":
        """Frozen stages stay in evaluation mode, so that their batch statistics stay what they were."""
        super().train(mode)
        for stage in self._frozen:
            stage.eval()
        return self

    def on_fit_start(self) -> None:
        """Frozen stages see the largest pictures, and need no other photo of the batch: a few at a time save memory."""
        for teacher in self._teachers:
            teacher.to(self.device).eval()
        for stage in self._frozen:
            stage.forward = functools.partial(_in_pieces, stage.forward)

    def on_fit_end(self) -> None:
        """The stages' own forward again."""
        for stage in self._frozen:
            del stage.forward

    def train_dataloader(self) -> DataLoader[Batch]:
        """Its order depends on the seed and the epoch alone."""
        workers = worker_count(self.settings.workers, self.settings.accelerator)
        return batches(self._train, self._order(), workers)

    def _order(self) -> Shuffled:
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        return Shuffled(
            len(self._train.y_true), self.settings.batch_size, lambda: self._seed(0), rank, processes
        )

    def val_dataloader(self) -> OrderedBatches:
        """The whole validation split, in every process."""
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
        """Seed this epoch's augmentation and dropout."""
        self._train_losses.clear()
        self._generator.manual_seed(self._seed(1 + self.global_rank))
        torch.manual_seed(self._seed(1001 + self.global_rank))

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        """Augment, mix, and compare with smoothed, class-weighted targets."""
        photos, y_true = batch
        x = self._augment(photos, self._generator)
        targets = F.one_hot(y_true, len(self.class_weights)).float()
        targets = (
            targets * (1 - self.settings.label_smoothing) + self.settings.label_smoothing / targets.shape[1]
        )
        x, targets = mixup(x, targets, self.settings.mixup, self._generator)
        if self._teachers:
            targets = torch.lerp(targets, taught(self._teachers, x), self.settings.distillation_weight)
        x, targets, weight = self._with_backgrounds(x, targets, self.class_weights[y_true])
        scores = self.network.logits(x)
        loss = (F.cross_entropy(scores, targets, reduction="none") * weight).mean()
        self._train_losses.append(loss.detach())
        self.log("loss", loss, prog_bar=True, logger=False)
        return loss

    def _with_backgrounds(
        self, x: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The batch with backgrounds behind it, on which no class is to be likely (outlier exposure, Hendrycks et al., 2019)."""
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
        """Keep scores and y_true until the epoch's end."""
        photos, y_true = batch
        self._val_outputs.append((self.network.logits(to_planes(photos)).float().cpu(), y_true.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Score the validation split."""
        scores, y_true = (torch.cat(column) for column in zip(*self._val_outputs, strict=True))
        self._val_outputs.clear()
        y_pred = scores.argmax(1)
        measured = {
            "val_loss": float(F.cross_entropy(scores, y_true)),
            "val_accuracy": float((y_pred == y_true).float().mean()),
            MONITOR: macro_f1(y_true.numpy(), y_pred.numpy()),
        }
        self.log_dict(measured, prog_bar=True, sync_dist=True)
        if not self.trainer.sanity_checking and self._train_losses:
            rate = float(self.optimizers().param_groups[-1]["lr"])  # type: ignore[union-attr]
            losses = {"train_loss": float(torch.stack(self._train_losses).mean()), "learning_rate": rate}
            self._require_finite(losses["train_loss"], measured["val_loss"])
            self.log_dict(losses, sync_dist=True)
            self.history.append({"epoch": float(self.current_epoch), **losses, **measured})

    def _require_finite(self, train_loss: float, val_loss: float) -> None:
        """Stop a diverged training in all processes at once, before the epoch's checkpoint is written."""
        finite = math.isfinite(train_loss) and math.isfinite(val_loss)
        if not self.trainer.strategy.reduce_boolean_decision(finite):
            raise DivergedError(
                f"The training diverged in epoch {self.current_epoch}: the training loss is {train_loss:.4g}, "
                f"the validation loss {val_loss:.4g}.",
                "Lower --learning-rate, raise --warmup-epochs, or check the photos.",
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the history, the time spent, and what the run is made with, so that another run's checkpoint is refused."""
        checkpoint["history"] = self.history
        checkpoint["seconds"] = self._seconds_before + time.perf_counter() - self._began
        checkpoint["architecture"] = self.network.architecture
        checkpoint[CONDITIONS] = self._conditions

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the history up where it stopped, and the time."""
        self.history = list(checkpoint["history"])
        self._seconds_before = checkpoint.get("seconds", 0.0)  # a run of an earlier version kept none

    def configure_optimizers(self) -> Any:
        """AdamW with a lower rate for the backbone; warm-up, then cosine, by step."""
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


def taught(teachers: Sequence[TrashNetwork], x: torch.Tensor) -> torch.Tensor:
    """The mean of the teachers' calibrated probabilities, float32 (B, C), for float photos (B, 3, H, W), 0 to 255.

    Each sees the very picture that the network learns from (Beyer et al., 2022, "A good teacher is patient and consistent").
    """
    with torch.no_grad():
        shares = [one.class_probabilities(_in_pieces(one.logits, x).float()) for one in teachers]
        return torch.stack(shares).mean(0)


class HistoryFile(Callback):
    """Writes the CSV of every epoch, whole each time."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / HISTORY

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write after each validation, in the first process alone."""
        assert isinstance(pl_module, FineTuning)
        if trainer.is_global_zero and pl_module.history:
            write_text(self._file, history_csv(pl_module.history))


class TrackedEpochs(Callback):
    """Tells the tracker of every epoch."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell after each validation, in the first process alone."""
        assert isinstance(pl_module, FineTuning)
        if trainer.is_global_zero and pl_module.history:
            backbone = float(trainer.optimizers[0].param_groups[0]["lr"])
            self._tracker.log_epoch({**pl_module.history[-1], "learning_rate_backbone": backbone})


class Splits(Protocol):
    """What fine-tuning reads; asked for only where there is an epoch to train."""

    @property
    def train(self) -> SplitPhotos:
        """Photos to learn from, larger than the input."""
        ...

    @property
    def selection(self) -> SplitPhotos:
        """Photos at the input size that choose the best epoch."""
        ...


def fine_tune(
    network: TrashNetwork,
    data: Splits,
    settings: TrainSettings,
    folder: Path,
    tracker: Tracker,
    teachers: Sequence[TrashNetwork] = (),
    conditions: Mapping[str, Any] | None = None,
) -> list[dict[str, float]] | None:
    """Fine-tune `network` in place; leaves it with the weights of the best epoch.

    Args:
        network: to be trained.
        data: that it learns from and is chosen by.
        settings: of the training; with `epochs` 0 nothing is done.
        folder: of its logs and checkpoints.
        tracker: that is told of every epoch.
        teachers: whose probabilities are learned beside the labels.
        conditions: data and settings of the run, kept in its checkpoints for `check_resumable`.

    Returns:
        The history, a row per epoch; None in all processes but the first.

    Raises:
        DivergedError: a loss is NaN or infinite at the end of an epoch.
    """
    if not settings.epochs:
        return []
    checkpoints = folder / CHECKPOINTS
    best = ModelCheckpoint(
        checkpoints, filename="best", monitor=MONITOR, mode="max", enable_version_counter=False
    )
    # `save_last` of the best would write only where an epoch is the best: a killed run would lose all since then.
    latest = ModelCheckpoint(checkpoints, filename="last", enable_version_counter=False)
    start = {name: value.clone() for name, value in network.state_dict().items()}
    module = FineTuning(network, data.train, data.selection, settings, teachers, conditions)
    module.train()  # Lightning keeps the mode it finds, and embedding photos for the head left evaluation mode
    _quieten()
    callbacks = [TrackedEpochs(tracker), *_callbacks(folder, settings.patience, settings.ema_decay)]
    trainer = _trainer(settings, folder, [*callbacks, best, latest])
    trainer.fit(module, ckpt_path=checkpoints / LAST if settings.resume else None, weights_only=True)
    if not trainer.is_global_zero:
        return None
    state = read_checkpoint(Path(best.best_model_path))["state_dict"]
    prefix = "network."
    tuned = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    network.load_state_dict(wise_ft(start, tuned, settings.wise_ft))
    return module.history


def _quieten() -> None:
    """Leave out Lightning's notices about what is meant to be so: its tips, frozen stages, loaders of our own, resuming."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for notice in (
        ".*in eval mode at the start of training.*",
        ".*does not have many workers.*",
        ".*treespec.*",
        "Checkpoint directory .* exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", notice)


class _ProgressBar(TQDMProgressBar):
    """Lightning's, on stderr: stdout is for results."""

    def init_train_tqdm(self) -> Tqdm:
        with contextlib.redirect_stdout(sys.stderr):
            return super().init_train_tqdm()

    def init_validation_tqdm(self) -> Tqdm:
        with contextlib.redirect_stdout(sys.stderr):
            return super().init_validation_tqdm()


def _callbacks(folder: Path, patience: int, ema_decay: float) -> list[Callback]:
    callbacks: list[Callback] = [
        HistoryFile(folder),
        EarlyStopping(MONITOR, mode="max", patience=patience),
        _ProgressBar(),
    ]
    if ema_decay:
        callbacks.append(WeightAveraging(multi_avg_fn=warm_average(ema_decay)))
    return callbacks


def _trainer(settings: TrainSettings, folder: Path, callbacks: list[Callback]) -> pl.Trainer:
    device = training_device(settings.accelerator).type
    return pl.Trainer(
        accelerator=device if settings.accelerator == "auto" else settings.accelerator,
        devices=settings.devices,
        strategy="ddp" if settings.devices > 1 else "auto",
        precision="bf16-mixed" if device == "cuda" else "32-true",
        benchmark=device == "cuda",
        max_epochs=settings.epochs,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=TensorBoardLogger(folder, name="tensorboard", version=""),
        log_every_n_steps=1,
        enable_model_summary=False,
    )


def worker_count(workers: int | None, accelerator: str) -> int:
    """Processes that make batches: as set, else as many as help beside a GPU; a CPU that trains has none to spare."""
    if workers is not None:
        return workers
    return min(8, os.cpu_count() or 1) if training_device(accelerator).type == "cuda" else 0


def _in_pieces(forward: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """A stage's output, computed in pieces of the batch; on an accelerator at once, which is faster there."""
    if x.device.type != "cpu" or len(x) <= PIECE:
        return forward(x)
    return torch.cat([forward(piece) for piece in torch.split(x, PIECE)])


def _freeze(network: TrashNetwork, count: int) -> list[nn.Module]:
    """Stop the first stages from learning; returns them."""
    frozen = network.stages()[:count]
    for stage in frozen:
        stage.requires_grad_(False)
    return frozen
