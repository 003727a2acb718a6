"""The shortest gateway with the same engine: FastAPI, Pillow, LiteRT. A baseline for `bench_isolation.py`.

MODEL=model_int8.tflite uvicorn --app-dir scripts plain_litert_gateway:app --workers 2 --port 9000
"""

import io
import os
import queue

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from fastapi import FastAPI, UploadFile
from PIL import Image


def opened() -> Interpreter:
    interpreter = Interpreter(os.environ["MODEL"], num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


idle: "queue.LifoQueue[Interpreter]" = queue.LifoQueue()
idle.put(opened())
app = FastAPI()


@app.post("/predict")
def predict(photos: UploadFile) -> list[float]:
    try:
        interpreter = idle.get_nowait()
    except queue.Empty:
        interpreter = opened()
    (given,), (returned,) = interpreter.get_input_details(), interpreter.get_output_details()
    height, width = map(int, given["shape"][1:3])
    image = Image.open(io.BytesIO(photos.file.read())).convert("RGB")
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    interpreter.set_tensor(given["index"], np.asarray(image)[None])
    interpreter.invoke()
    row: list[float] = interpreter.get_tensor(returned["index"])[0].tolist()
    idle.put(interpreter)
    return row
