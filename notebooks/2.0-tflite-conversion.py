# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2 · A model for a phone: conversion and quantisation
#
# A trained network lives in PyTorch. A phone or a Raspberry Pi needs a `.tflite` file and LiteRT, the runtime formerly called
# TensorFlow Lite. This notebook converts one model to three precisions and compares their answers to the same photos.
#
# First train a model: the head alone on the sample photos, which takes seconds.

# %%
# %matplotlib inline
import os
import time
from pathlib import Path

import numpy as np

here = Path.cwd()
os.chdir(next(folder for folder in (here, *here.parents) if (folder / "data" / "sample").is_dir()))

from image_classification_trash.config.data import DataSettings
from image_classification_trash.config.models import ExportSettings
from image_classification_trash.config.training import TrainSettings
from image_classification_trash.data.make_dataset import make_dataset
from image_classification_trash.features.build_features import near_duplicate_embedder
from image_classification_trash.models.train_model import train

data = DataSettings(name="sample")
manifest = make_dataset(data, near_duplicate_embedder(data.interim_dir)).manifest
bundle = train(
    TrainSettings(name="sample", output="notebook-head", input_height=96, input_width=128, epochs=0)
)

# %% [markdown]
# ## Convert
#
# Conversion writes three files. `float32` keeps the network's own numbers. `fp16` stores each weight in two bytes instead of four.
# `int8` stores weights in one byte and computes with integers. To learn the range of the numbers between the layers, it runs 200
# training photos first (*calibration*).
#
# Each file must pass a gate: it is run on the validation photos and compared with the trained model before it is kept. A float32 file
# must agree within 0.0001; an int8 file may lose at most half a point of accuracy. (On so few validation photos one photo is more than
# that, and one is always allowed.)

# %%
from image_classification_trash.models.export_model import export

exported = export(ExportSettings(bundle=bundle.path, format=["tflite"], quantize=["fp16", "int8"]))
print(f"{'file':<20}{'MB':>6}{'largest difference':>20}{'same top class':>16}")
for name, record in exported.records.items():
    (parity,) = record.parity.values()
    print(
        f"{name:<20}{record.bytes / 1e6:>6.1f}{parity.largest_difference:>20.5f}{parity.top1_agreement:>16.1%}"
    )

# %% [markdown]
# ## What a file contains
#
# Pixels go in unchanged: `uint8`, height × width × red, green, blue. Scaling, normalisation, temperature and softmax are part of the
# graph, so the phone cannot do them differently. Different preprocessing is the most common way for a good model to become a bad app.

# %%
from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter(str(exported.folder / "model_int8.tflite"))
for name, (tensor,) in {
    "in": interpreter.get_input_details(),
    "out": interpreter.get_output_details(),
}.items():
    print(name, tensor["shape"], tensor["dtype"].__name__)

# %% [markdown]
# The file also contains the labels, input size and threshold; any zip program can read them.

# %%
import json
import zipfile

with zipfile.ZipFile(exported.folder / "model_int8.tflite") as file:
    print(file.namelist(), "\n" + file.read("labels.txt").decode())
    print(
        {
            key: json.loads(file.read("bundle.json"))[key]
            for key in ("input_height", "input_width", "resize_mode", "threshold")
        }
    )

# %% [markdown]
# ## Compare the answers
#
# The trained network in PyTorch and the three files classify the test photos. All get the same pixels, from the one function that
# decodes photos.

# %%
from image_classification_trash import TrashClassifier
from image_classification_trash.inference.images import read_photo

test = manifest.photos_of("test")
photos = np.stack(
    [read_photo(manifest.path_of(p), bundle.config.input_size, bundle.config.resize_mode) for p in test]
)
y_true = np.array([bundle.config.labels.index(photo.label) for photo in test])
files = ("model.tflite", "model_fp16.tflite", "model_int8.tflite")
engines = {"PyTorch": TrashClassifier.load(bundle, runtime="torch", threads=1)}
engines |= {name: TrashClassifier.load(exported.folder / name, threads=1) for name in files}
answers, milliseconds = {}, {}
for name, engine in engines.items():
    engine.probabilities(photos[:2])  # the first run is slower than all others
    start = time.perf_counter()
    answers[name] = np.concatenate([engine.probabilities(photo[None]) for photo in photos])
    milliseconds[name] = 1000 * (time.perf_counter() - start) / len(photos)

trained = answers["PyTorch"]
print(f"{'engine':<20}{'right':>10}{'same answer':>13}{'ms a photo':>12}")
for name, rows in answers.items():
    right, same = (rows.argmax(1) == y_true).mean(), (rows.argmax(1) == trained.argmax(1)).mean()
    print(f"{name:<20}{right:>10.1%}{same:>13.1%}{milliseconds[name]:>12.1f}")

# %% [markdown]
# With so few photos, a difference of one or two correct answers is chance. The times are from one run, on one thread, on whatever
# machine made this page, beside other work: a hint, not a measurement. `trash-classifier benchmark` measures properly.
#
# How far do the probabilities move? Each dot is one class of one photo. On the diagonal nothing changed.

# %%
from matplotlib.figure import Figure

figure = Figure(figsize=(10, 3.4), layout="constrained")
for axes, name in zip(figure.subplots(1, 3, sharey=True), files, strict=True):
    axes.plot([0, 1], [0, 1], color="#888888", lw=1)
    axes.plot(trained.ravel(), answers[name].ravel(), ".", ms=4, color="#0072B2")
    axes.set_title(f"{name}: mean difference {np.abs(answers[name] - trained).mean():.5f}", fontsize=9)
    axes.set(xlabel="probability in PyTorch", aspect="equal")
figure.axes[0].set_ylabel("in the file")
figure

# %% [markdown]
# This is the photo on which int8 differs most:

# %%
from image_classification_trash.visualization import plots

index = int(np.abs(answers["model_int8.tflite"] - trained).max(1).argmax())
labels = bundle.config.labels


def top(rows):
    best = rows[index].argmax()
    return f"{labels[best]} {rows[index][best]:.0%}"


plots.image_rows(
    [[photos[index]]],
    [[f"{test[index].label}: PyTorch {top(trained)}, int8 {top(answers['model_int8.tflite'])}"]],
    "Largest difference",
    columns=1,
)

# %% [markdown]
# **Which file should you use?** `model_int8.tflite` for phones and small boards: smallest and, on most processors, fastest.
# `model_fp16.tflite` for a phone's GPU. `model.tflite` where the answer must equal the trained model's to the fourth digit. The how-to
# guides show the few lines of code that each platform needs; notebook 3 queries a model over the network.
