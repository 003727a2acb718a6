// The pixel contract of inference/images.py in the browser: the same fit, the same filter, the same rounding.
//
// A photo comes in strips of rows, so that a large one needs no canvas of its full size: browsers on phones refuse
// those. Each strip is reduced as the JPEG library reduces (draft mode), then resized sideways; the whole is resized
// downwards at the end. Both passes round to 8 bits, as Pillow's do.

export const STRIP_ROWS = 256; // a multiple of 8, for blocks of a JPEG are never cut
const DRAFT_MARGIN = 2;
const PRECISION_BITS = 22; // Pillow's fixed point: 32 bits, less 8 for the pixel and 2 for the filter's overshoot

// How many times the JPEG library would halve each side while decoding: 1, 2, 4 or 8.
export function draftScale(width, height, size) {
  const side = DRAFT_MARGIN * Math.max(...size);
  const times = Math.floor(Math.min(width, height) / side);
  return [8, 4, 2].find(scale => times >= scale) ?? 1;
}

// What to read and where to put it, for `fit` as in inference/images.py. size: [height, width].
export function plan(width, height, [toHeight, toWidth], fit) {
  const whole = { box: [0, 0, width, height], width: toWidth, height: toHeight, left: 0, top: 0 };
  if (fit === "crop") {
    const scale = Math.min(width / toWidth, height / toHeight);
    const left = (width - toWidth * scale) / 2, top = (height - toHeight * scale) / 2;
    const box = [left, top, left + toWidth * scale, top + toHeight * scale];
    return { ...whole, box: box.map(Math.fround) };
  }
  if (fit === "pad") {
    const scale = Math.min(toWidth / width, toHeight / height);
    const inner = [width, height].map(side => Math.max(1, roundHalfEven(side * scale)));
    const left = Math.floor((toWidth - inner[0]) / 2), top = Math.floor((toHeight - inner[1]) / 2);
    return { ...whole, width: inner[0], height: inner[1], left, top };
  }
  return whole;
}

function roundHalfEven(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 ? floor + 1 : floor;
}

// Pillow's weights of a triangle filter that widens with the scale: for each output, its first input and its weights.
function weights(inSize, from, to, outSize) {
  const scale = (to - from) / outSize, support = Math.max(scale, 1), sharpness = 1 / support;
  return Array.from({ length: outSize }, (_, out) => {
    const centre = from + (out + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(inSize, Math.trunc(centre + support + 0.5));
    const raw = [];
    for (let i = first; i < last; i++) raw.push(Math.max(0, 1 - Math.abs((i - centre + 0.5) * sharpness)));
    const sum = raw.reduce((a, b) => a + b, 0);
    return { first, kernel: Int32Array.from(raw, weight => Math.trunc(0.5 + (weight / sum) * 2 ** PRECISION_BITS)) };
  });
}

// uint8 (rows, width, channels) to (rows, outputs, 3); a fourth channel is left out.
export function resizeAcross(pixels, width, channels, rows, columns) {
  const out = new Uint8Array(rows * columns.length * 3);
  const half = 1 << (PRECISION_BITS - 1);
  let at = 0;
  for (let row = 0; row < rows; row++) {
    for (const { first, kernel } of columns) {
      let red = half, green = half, blue = half, from = (row * width + first) * channels;
      for (const weight of kernel) {
        red += pixels[from] * weight;
        green += pixels[from + 1] * weight;
        blue += pixels[from + 2] * weight;
        from += channels;
      }
      out[at++] = red >> PRECISION_BITS;
      out[at++] = green >> PRECISION_BITS;
      out[at++] = blue >> PRECISION_BITS;
    }
  }
  return out;
}

// uint8 (inputs, width, 3) to (outputs, width, 3).
export function resizeDown(pixels, width, lines) {
  const stride = width * 3, out = new Uint8Array(lines.length * stride);
  lines.forEach(({ first, kernel }, line) => {
    for (let i = 0; i < stride; i++) {
      let sum = 1 << (PRECISION_BITS - 1);
      for (let k = 0; k < kernel.length; k++) sum += pixels[(first + k) * stride + i] * kernel[k];
      out[line * stride + i] = sum >> PRECISION_BITS;
    }
  });
  return out;
}

// The matrix (keep, 8) that takes 8 values to the `keep` values of their lowest frequencies, as a scaled inverse DCT does.
function reduction(keep) {
  const cosine = (k, i, n) => Math.sqrt((k ? 2 : 1) / n) * Math.cos(((2 * i + 1) * k * Math.PI) / (2 * n));
  return Array.from({ length: keep }, (_, out) => Float32Array.from({ length: 8 }, (_, i) => {
    let sum = 0;
    for (let k = 0; k < keep; k++) sum += cosine(k, out, keep) * cosine(k, i, 8);
    return sum * Math.sqrt(keep / 8);
  }));
}

// RGBA (rows, width, 4) to RGB at 1/scale of each side, block by block of 8 x 8; the last blocks repeat the edge.
export function reduceLikeJpeg(pixels, width, rows, scale) {
  const matrix = reduction(8 / scale), keep = 8 / scale;
  const toWidth = Math.ceil(width / scale), toRows = Math.ceil(rows / scale);
  const across = new Float32Array(Math.ceil(rows / 8) * 8 * toWidth * 3);
  for (let row = 0; row < Math.ceil(rows / 8) * 8; row++) {
    const line = Math.min(row, rows - 1) * width;
    for (let x = 0; x < toWidth; x++) {
      const start = Math.floor(x / keep) * 8, kernel = matrix[x % keep];
      let red = 0, green = 0, blue = 0;
      for (let i = 0; i < 8; i++) {
        const from = (line + Math.min(start + i, width - 1)) * 4;
        red += pixels[from] * kernel[i];
        green += pixels[from + 1] * kernel[i];
        blue += pixels[from + 2] * kernel[i];
      }
      across.set([red, green, blue], (row * toWidth + x) * 3);
    }
  }
  const stride = toWidth * 3, out = new Uint8ClampedArray(toRows * stride); // rounds and clips
  for (let y = 0; y < toRows; y++) {
    const start = Math.floor(y / keep) * 8, kernel = matrix[y % keep];
    for (let i = 0; i < stride; i++) {
      let sum = 0;
      for (let k = 0; k < 8; k++) sum += across[(start + k) * stride + i] * kernel[k];
      out[y * stride + i] = sum;
    }
  }
  return out;
}

// A photo as uint8 RGB (height, width, 3).
//
// readRows(top, count): RGBA of so many rows of the photo, over white, upright.
// scale: as draftScale says for a JPEG, 1 for all else. size: [height, width] wanted.
export function toModelPixels(readRows, width, height, size, fit, scale = 1) {
  const smallWidth = Math.ceil(width / scale), smallHeight = Math.ceil(height / scale);
  const { box, ...target } = plan(smallWidth, smallHeight, size, fit);
  const columns = weights(smallWidth, box[0], box[2], target.width);
  const lines = weights(smallHeight, box[1], box[3], target.height);
  // Pillow 13 resizes such a photo, narrower than the model takes, downwards first: seen by comparing pixels.
  const downFirst = target.width > smallWidth && target.height < smallHeight;
  const strip = downFirst ? smallWidth : target.width, channels = scale === 1 ? 4 : 3;
  const narrow = new Uint8Array(smallHeight * strip * 3);
  for (let top = 0; top < height; top += STRIP_ROWS) {
    const rows = Math.min(STRIP_ROWS, height - top), read = readRows(top, rows);
    const small = scale === 1 ? read : reduceLikeJpeg(read, width, rows, scale);
    const smallRows = Math.ceil(rows / scale);
    const kept = downFirst ? rgbOf(small, channels) : resizeAcross(small, smallWidth, channels, smallRows, columns);
    narrow.set(kept, (top / scale) * strip * 3);
  }
  const low = resizeDown(narrow, strip, lines);
  return placed(downFirst ? resizeAcross(low, strip, 3, target.height, columns) : low, target, size);
}

function rgbOf(pixels, channels) {
  return channels === 3 ? pixels : pixels.filter((_, i) => i % 4 < 3);
}

function placed(pixels, { width, height, left, top }, [toHeight, toWidth]) {
  if (width === toWidth && height === toHeight) return pixels;
  const out = new Uint8Array(toHeight * toWidth * 3).fill(255);
  for (let row = 0; row < height; row++) {
    out.set(pixels.subarray(row * width * 3, (row + 1) * width * 3), ((top + row) * toWidth + left) * 3);
  }
  return out;
}
