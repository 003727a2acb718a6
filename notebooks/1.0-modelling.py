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
# # 1 · From photos to an evaluated model
#
# This notebook takes the 300 sample photos through the whole workflow: explore, split, train, and evaluate on photos that training
# never saw. It uses the same functions as the command `trash-classifier`, so what you learn here applies there too.
#
# The sample is small on purpose. You see every step in about a minute, but the figures below say little about how good a model can
# be. For that, prepare all of TrashNet or your own photos and change one name.

# %%
# %matplotlib inline
import logging
import os
from pathlib import Path

import numpy as np

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
here = Path.cwd()
os.chdir(next(folder for folder in (here, *here.parents) if (folder / "data" / "sample").is_dir()))

# %% [markdown]
# ## From photos to a table
#
# `make_dataset` decodes every photo once, excludes what it cannot use, finds near-duplicates and assigns each photo to training,
# validation or test. The result is a table, the *manifest*; all later steps read only that table.

# %%
from image_classification_trash.config.data import DataSettings
from image_classification_trash.data.make_dataset import make_dataset
from image_classification_trash.features.build_features import near_duplicate_embedder

settings = DataSettings(name="sample")
manifest = make_dataset(settings, near_duplicate_embedder(settings.interim_dir)).manifest
print(len(manifest.photos), "photos of", ", ".join(manifest.labels))
manifest.photos[0]

# %%
from image_classification_trash.visualization import plots

plots.class_balance(manifest.counts())

# %% [markdown]
# The three splits have three purposes. The network learns from **train**. Everything that is *chosen* (how long to train, when to
# say "unsure") is chosen on **val**. **test** is read once, at the end. If we chose anything by the test photos, the test would no
# longer tell how the model performs on photos that it has not seen.
#
# ## Explore before you train
#
# Four photos of each class:

# %%
from image_classification_trash.inference.images import read_photo

train_photos = manifest.photos_of("train")
shown = [p for label in manifest.labels for p in [q for q in train_photos if q.label == label][:4]]
plots.contact_sheet(
    [read_photo(manifest.path_of(photo), (96, 128)) for photo in shown],
    [photo.label for photo in shown],
    "Training photos",
)

# %% [markdown]
# One object, often in the centre, on white posterboard, in good light. A model that learns from these photos performs best on photos
# like them. Photos from a street look different, the model performs worse there, and no training method undoes that completely.
# Always evaluate a model on photos from where it will be used.
#
# ### Do test photos resemble training photos?
#
# If an object was photographed twice, one photo may be in train and one in test. The test then asks the model to recognise an object
# that it knows. `make_dataset` counts how often this happens:

# %%
overlap = manifest.metadata.near_duplicates.overlap["test"]
print(
    f"{overlap.with_near_duplicate_in_train} of {overlap.photos} test photos have a near-duplicate in train"
)

# %% [markdown]
# ## Train in two stages
#
# 1. **The head.** EfficientNet-Lite0 is pretrained on ImageNet. Its second to last layer turns a photo into 1280 numbers, an embedding
#    that already separates a bottle from a box. A logistic regression is fitted to these embeddings in seconds.
# 2. **Fine-tuning.** The last stages of the network learn too, for a few epochs with a small learning rate, from photos that are
#    slightly rotated, cropped and recoloured each time.
#
# To save time, the input is smaller than usual (160 × 208 pixels) and there are only three epochs.

# %%
import csv

from image_classification_trash.config.training import TrainSettings
from image_classification_trash.models.train_model import train

bundle = train(
    TrainSettings(
        name="sample",
        output="notebook",
        input_height=160,
        input_width=208,
        epochs=3,
        target_precision=0.9,
    )
)
history = list(csv.DictReader((bundle.path / "history.csv").open()))
plots.training_curves([{key: float(value) for key, value in row.items() if value} for row in history])

# %% [markdown]
# Epoch 0 is the fitted head. The epoch with the best validation score is kept; with photos as few as here, none may improve on the
# head, which is kept then. `train` returns a *bundle*: a folder that describes itself.

# %%
print(*sorted(file.name for file in bundle.path.iterdir()), sep="\n")
print("temperature", round(bundle.config.temperature, 2), "| threshold", round(bundle.config.threshold, 2))

# %% [markdown]
# ## Evaluate on the test photos
#
# `evaluate` loads the bundle from disk, as any user of it would, and classifies the test photos.

# %%
from image_classification_trash.config.models import EvaluateSettings
from image_classification_trash.evaluation.formatting import with_interval
from image_classification_trash.models.evaluate_model import evaluate

evaluation = evaluate(EvaluateSettings(bundle=bundle.path))
metrics, labels = evaluation.metrics, bundle.config.labels
print("test photos      ", metrics.n)
print("accuracy         ", with_interval(metrics.accuracy))
print("balanced accuracy", with_interval(metrics.balanced_accuracy))

# %% [markdown]
# Read the interval first. With so few test photos, one photo is two points of accuracy, and another sample of photos could give any
# figure in that range. Two models whose intervals overlap this widely cannot be told apart.
#
# ### Which classes are confused?

# %%
plots.confusion_matrix(np.array(metrics.confusion), labels)

# %% [markdown]
# Rows are the true classes, columns the predicted ones; the diagonal is correct. Look for the largest number off the diagonal: it
# names the pair of classes for which more photos would help most.
#
# ### The most confident errors
#
# The most instructive photos are those where the model was *confident and wrong*. Grad-CAM beside each photo shows where the network
# looked: bright regions supported its answer.

# %%
from image_classification_trash.networks.network import load_network
from image_classification_trash.visualization.gradcam import grad_cam

confidence = evaluation.probabilities.max(1)
y_pred = evaluation.probabilities.argmax(1)
wrong = np.nonzero(y_pred != evaluation.y_true)[0]
worst = wrong[np.argsort(-confidence[wrong])][:4]
network = load_network(bundle)


def beside_heat(index):
    """A photo, and the same photo under the map of where the network looked."""
    photo = read_photo(evaluation.paths[index], bundle.config.input_size, bundle.config.resize_mode)
    return [photo, plots.overlay(photo, grad_cam(network, photo))]


def caption(index):
    return f"{labels[y_pred[index]]} ({confidence[index]:.0%}), is {labels[evaluation.y_true[index]]}"


rows = [[*beside_heat(a), *beside_heat(b)] for a, b in zip(worst[::2], worst[1::2], strict=False)]
captions = [[caption(a), caption(b)] for a, b in zip(worst[::2], worst[1::2], strict=False)]
plots.image_rows(rows, captions, f"Most confident errors ({len(wrong)} in all)")

# %% [markdown]
# Ask of each: could *you* tell from this photo alone? Is the label right? If the heat lies on the background, the model has learned
# the background.
#
# ### Is 80% really eight in ten?
#
# A probability is useful if it can be taken literally. The plot groups answers by confidence and compares confidence with accuracy; on
# the dashed line the two agree. Training fits one number on the validation photos, the temperature, which divides all scores: left
# without it, right with it. The sample has 42 validation photos, too few to fit it well, so here it may help or harm.

# %%
plots.reliability_diagram(metrics.reliability_before, metrics.reliability)

# %% [markdown]
# ### When to say "unsure"
#
# Below the bundle's threshold the decision is `unsure`. Accepting fewer answers leaves fewer wrong ones; this curve shows the whole
# trade-off, with the threshold as a dot.

# %%
from image_classification_trash.evaluation.metrics import risk_coverage

curve = risk_coverage(evaluation.y_true, evaluation.probabilities)
accepted = metrics.accepted
point = None if accepted.precision is None else (accepted.coverage, 1 - accepted.precision)
plots.risk_coverage(curve.coverage, curve.risk, point)

# %% [markdown]
# ## Use it

# %%
from image_classification_trash import TrashClassifier

classifier = TrashClassifier.load(bundle)
for answer in classifier.predict(evaluation.paths[:5], top_k=2):
    print(
        Path(answer.path).name,
        "->",
        answer.decision,
        {k: round(v, 2) for k, v in answer.probabilities.items()},
    )

# %% [markdown]
# **Next.** Change `name="sample"` to `"trashnet"`, or to a data set made from your own folders, and train for 20 epochs at 256 × 320.
# Or stay here and change one thing: `architecture="sequential_cnn"` learns only from these photos and shows what the pretrained
# network was worth. Notebook 2 makes this model small enough for a phone.
