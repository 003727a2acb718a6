// Runs the model beside the page: photos in, probabilities out, and no photo leaves.
//
// to here:    { load: true, headers }        from here:  { loaded, total } bytes while loading, then { ready: model.json },
//                                                        or { failed, status } with the status of a request that was refused
//             { id, photo: Blob }                        { id, probabilities, milliseconds } or { id, error }

import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { fixBatch } from "./batch.js";
import { draftScale, toModelPixels } from "./pixels.js";

const LIBRARY = new URL("litert_wasm_compat_internal.js", self.location);
const ENGINE = new URL("litert_wasm_compat_internal.wasm", self.location);
const MIN_SIDE = 8, MAX_PIXELS = 80_000_000; // of inference/images.py
let ready = null;

// The model runs on the processor, which rounds alike everywhere. Without this, the library wakes the GPU all the same.
Object.defineProperty(self.navigator, "gpu", { value: undefined });

async function load(headers) {
  const about = await (await get(new URL("../model.json", self.location), headers)).json();
  const total = about.model_bytes + about.engine_bytes;
  let loaded = 0;
  const count = bytes => self.postMessage({ loaded: (loaded += bytes), total });
  const [wasmBinary, file] = [await download(ENGINE, count), await download(new URL("../model.tflite", self.location), count, headers)];
  // The library hands this to its own loader. What it tells of itself is no error, though it comes on that channel.
  self.Module = { wasmBinary, printErr: line => log(line) };
  await loadLiteRt(LIBRARY.href);
  const model = await loadAndCompile(fixBatch(file), { accelerator: "wasm" });
  return { about, model };
}

function log(line) {
  const say = { "INFO:": console.debug, "WARNING:": console.debug }[line.split(" ")[0]] ?? console.error;
  say(line);
}

async function get(url, headers) {
  const response = await fetch(url, { headers });
  if (response.ok) return response;
  const error = new Error("the server answered " + response.status + " for " + url.pathname);
  throw Object.assign(error, { status: response.status });
}

async function download(url, count, headers = {}) {
  const parts = [];
  const reader = (await get(url, headers)).body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    count(part.value.length);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function decode(photo, { height, width, fit }) {
  const bitmap = await bitmapOf(photo);
  try {
    check(bitmap);
    const size = [height, width];
    const scale = (await isJpeg(photo)) ? draftScale(bitmap.width, bitmap.height, size) : 1;
    return toModelPixels(rowsOf(bitmap), bitmap.width, bitmap.height, size, fit, scale);
  } finally {
    bitmap.close();
  }
}

async function bitmapOf(photo) {
  if (!photo.size) throw new Error("The photo is empty (0 bytes).");
  try {
    // Pillow hands on the numbers as they are stored: no colour profile is applied.
    return await createImageBitmap(photo, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new Error("This browser cannot read it as a photo. The server may know its format: choose \"On this server\".");
  }
}

function check({ width, height }) {
  const found = "The photo has " + width + " x " + height + " pixels; ";
  if (Math.min(width, height) < MIN_SIDE) throw new Error(found + "at least " + MIN_SIDE + " a side are needed.");
  if (width * height > MAX_PIXELS) throw new Error(found + "at most " + MAX_PIXELS / 1e6 + " million are read.");
}

async function isJpeg(photo) {
  const [first, second, third] = new Uint8Array(await photo.slice(0, 3).arrayBuffer());
  return first === 0xff && second === 0xd8 && third === 0xff;
}

function rowsOf(bitmap) {
  return (top, rows) => {
    const canvas = new OffscreenCanvas(bitmap.width, rows);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "white";
    context.fillRect(0, 0, bitmap.width, rows);
    context.drawImage(bitmap, 0, -top);
    return context.getImageData(0, 0, bitmap.width, rows).data;
  };
}

async function run({ about, model }, pixels) {
  const input = new Tensor(pixels, [1, about.height, about.width, 3]);
  const outputs = await model.run(input);
  const probabilities = Array.from(outputs[0].toTypedArray());
  for (const tensor of [input, ...outputs]) tensor.delete();
  return probabilities;
}

async function answer(photo) {
  const loaded = await ready, start = performance.now();
  const pixels = await decode(photo, loaded.about);
  const decoded = performance.now();
  const probabilities = await run(loaded, pixels);
  return { probabilities, milliseconds: { fetch: 0, decode: decoded - start, infer: performance.now() - decoded } };
}

self.addEventListener("message", async ({ data }) => {
  try {
    if (data.load) {
      ready = load(data.headers);
      self.postMessage({ ready: (await ready).about });
    } else {
      self.postMessage({ id: data.id, ...(await answer(data.photo)) });
    }
  } catch (error) {
    const message = String(error.message ?? error);
    self.postMessage(data.load ? { failed: message, status: error.status } : { id: data.id, error: message });
  }
});
