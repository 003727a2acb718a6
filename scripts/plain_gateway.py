"""The gateway that people write first: FastAPI, torch eager, torchvision's transforms. A baseline for `bench_gateway.py`.

BUNDLE=models/trashnet uvicorn --app-dir scripts plain_gateway:app --port 9000
"""

import io
import os

import torch
from fastapi import FastAPI, UploadFile
from PIL import Image
from torchvision import transforms

from image_classification_trash.inference.bundle import read_bundle
from image_classification_trash.networks.network import load_network

bundle = read_bundle(os.environ["BUNDLE"])
network = load_network(bundle).to(memory_format=torch.contiguous_format).eval()
network.mean.zero_()
network.std.fill_(1)  # the transforms normalise
prepare = transforms.Compose(
    [
        transforms.Resize(bundle.config.input_size),
        transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.5] * 3),
    ]
)
app = FastAPI()


@app.post("/predict")
def predict(photos: UploadFile) -> dict[str, float]:
    image = Image.open(io.BytesIO(photos.file.read())).convert("RGB")
    with torch.no_grad():
        (probabilities,) = network.from_embeddings(network.embed_all(prepare(image)[None])).tolist()
    return dict(zip(bundle.config.labels, probabilities, strict=True))
