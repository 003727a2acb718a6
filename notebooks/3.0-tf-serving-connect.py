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
# # 3 · Query a model server
#
# In a larger installation the model runs on its own server, often TensorFlow Serving, and programs query it over HTTP with simple JSON.
# This notebook queries a running server in two ways: with plain JSON, to see what goes over the wire, and through `TrashClassifier`,
# which adds time-outs and retries.
#
# Set `MODEL_SERVER=http://host:8501` to query your own server. Otherwise the notebook starts one on a free port: the stand-in (KServe's
# server, `make tools`) if it is installed, or this project's gateway, which speaks the same protocol.
# **TensorFlow Serving's own binary was not tested for this page.**

# %%
# %matplotlib inline
import atexit
import base64
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import numpy as np

here = Path.cwd()
os.chdir(next(folder for folder in (here, *here.parents) if (folder / "data" / "sample").is_dir()))

from image_classification_trash.config.data import DataSettings
from image_classification_trash.config.models import ExportSettings
from image_classification_trash.config.training import TrainSettings
from image_classification_trash.data.make_dataset import make_dataset
from image_classification_trash.features.build_features import near_duplicate_embedder
from image_classification_trash.models.export_model import export
from image_classification_trash.models.train_model import train

data = DataSettings(name="sample")
manifest = make_dataset(data, near_duplicate_embedder(data.interim_dir)).manifest
bundle = train(
    TrainSettings(name="sample", output="notebook-served", input_height=96, input_width=128, epochs=0)
)
exported = export(ExportSettings(bundle=bundle.path, format=["tflite"], quantize=["float32"]))
model_file = exported.folder / "model.tflite"

# %% [markdown]
# ## The server

# %%
import image_classification_trash

stand_in = Path(f"{sys.prefix}-stand-in/bin/python")
script = Path(image_classification_trash.__file__).parents[1] / "scripts" / "model_stand_in.py"
if "MODEL_SERVER" in os.environ:
    process, line = None, os.environ["MODEL_SERVER"]
else:
    command = (
        [stand_in, script, model_file, "--port", "0"]
        if stand_in.exists()
        else [sys.executable, "-m", "image_classification_trash", "serve", model_file, "--port", "0"]
    )
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    line = next(text for text in process.stdout if "http://127.0.0.1:" in text)
    threading.Thread(target=process.stdout.read, daemon=True).start()
    atexit.register(process.kill)
server = re.search(r"https?://[^\s/,]+", line)[0]
print("asked here:", line.replace(server, "http://...").strip())

# %% [markdown]
# ## Check that the model is available
#
# TensorFlow Serving reports a model's versions and their state under its name. The name is `trash` unless you chose another.

# %%
import time

model = f"{server}/v1/models/trash"
for _ in range(100):  # a server that has just started may need a moment
    try:
        state = httpx.get(model, timeout=5)
    except httpx.TransportError:
        time.sleep(0.1)
        continue
    break
state.json()

# %% [markdown]
# ## Query with plain JSON
#
# JSON carries a photo's bytes as base64, under the key `b64`. The *signature* selects an input of the model: `serving_bytes` takes
# encoded photos and decodes and resizes them on the server. (The exported SavedModel has a second signature, `serving_default`, for
# photos that are already pixels.)

# %%
photo = manifest.path_of(manifest.photos_of("test")[0])
body = {
    "signature_name": "serving_bytes",
    "instances": [{"b64": base64.b64encode(photo.read_bytes()).decode()}],
}
answer = httpx.post(f"{model}:predict", json=body, timeout=30)
answer.raise_for_status()
answer.json()

# %% [markdown]
# The answer has one row per photo and one number per class, in the order of the bundle's labels. It does not contain the labels, so keep
# `labels.txt` at hand:

# %%
row = answer.json()["predictions"][0]
dict(sorted(zip(bundle.config.labels, (round(p, 3) for p in row), strict=True), key=lambda pair: -pair[1]))

# %% [markdown]
# One request can contain several photos, as several instances. The server rejects what is not a photo, and the answer says why:

# %%
bad = {"signature_name": "serving_bytes", "instances": [{"b64": base64.b64encode(b"not a photo").decode()}]}
refused = httpx.post(f"{model}:predict", json=bad, timeout=30)
print(refused.status_code, refused.text)

# %% [markdown]
# ## Query through the classifier
#
# `TrashClassifier.connect` reads labels, input size and threshold from the bundle and asks the server for the probabilities. The photo is
# decoded *here*, with the same code as everywhere, and sent as a lossless bitmap: HEIC works, rotation is applied, and the answer
# equals that of the model in this process.

# %%
from image_classification_trash import TrashClassifier
from image_classification_trash.inference.tf_serving import ModelServer

remote = TrashClassifier.connect(bundle, ModelServer(server, model="trash", seconds=10))
local = TrashClassifier.load(model_file)
photos = [manifest.path_of(p) for p in manifest.photos_of("test")[::6]]
print("ready:", remote.is_ready())
there_and_here = list(zip(remote.stream(photos), local.stream(photos), strict=True))
for there, in_process in there_and_here:
    print(
        f"{Path(there.path).name:<18}{there.decision:<11}{there.probability:.4f}  here {in_process.probability:.4f}"
    )

# %% [markdown]
# Here are the same photos with the server's answers:

# %%
from image_classification_trash.inference.images import read_photo
from image_classification_trash.visualization import plots

plots.contact_sheet(
    [read_photo(photo, (96, 128)) for photo in photos],
    [f"{there.decision} {there.probability:.0%}" for there, _ in there_and_here],
    "Answered by the server",
)

# %% [markdown]
# How far apart are the server's and the local answers, over all classes?

# %%
differences = [
    abs(a.probabilities[k] - b.probabilities[k]) for a, b in there_and_here for k in a.probabilities
]
print("largest difference of a probability:", f"{max(differences):.1e}")
assert max(differences) < 1e-4

# %% [markdown]
# ## Measure the cost of a query
#
# Twenty-four photos, one after the other, then in batches of eight:

# %%
pixels = np.zeros((24, *bundle.config.input_size, 3), np.uint8)
timings = {}
for size in (1, 8):
    start = time.perf_counter()
    for first in range(0, len(pixels), size):
        remote.probabilities(pixels[first : first + size])
    timings[size] = 1000 * (time.perf_counter() - start) / len(pixels)
for size, each in timings.items():
    print(f"batches of {size}: {each:.1f} ms a photo")

# %% [markdown]
# (One run on the machine that made this page, beside other work: a hint, not a measurement.)
#
# ## When the server is unreachable
#
# The classifier retries for a while, then raises an error that says what happened:

# %%
from image_classification_trash import TrashClassifierError

if process is not None:
    process.terminate()
    process.wait()
    try:
        remote.predict(photos[:1])
    except TrashClassifierError as error:
        print(str(error).replace(server, "http://..."))

# %% [markdown]
# A program that should not know about model servers queries the gateway instead, which does all of this for every client:
# `trash-classifier serve BUNDLE --runtime tf-serving --backend-url http://host:8501`.
