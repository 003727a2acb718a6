// The exported .tflite takes any number of photos; LiteRT.js runs only what has a fixed shape. Photos come one by one
// here, so the batch is written down as 1, in the file's own table of shapes (a FlatBuffer, by TensorFlow Lite's schema).

const SUBGRAPHS = 2, TENSORS = 0, SHAPE_SIGNATURE = 7; // numbers of the fields in the schema

// Where field `number` of the table at `table` lies; 0 where the table lacks it.
function field(view, table, number) {
  const vtable = table - view.getInt32(table, true), slot = 4 + 2 * number;
  const offset = slot < view.getUint16(vtable, true) ? view.getUint16(vtable + slot, true) : 0;
  return offset && table + offset;
}

function follow(view, at) { return at + view.getUint32(at, true); }

// The positions of the elements, 4 bytes each, of the vector in field `number`.
function elements(view, table, number) {
  const at = field(view, table, number);
  if (!at) return [];
  const vector = follow(view, at);
  return Array.from({ length: view.getUint32(vector, true) }, (_, i) => vector + 4 + 4 * i);
}

// Changes the model in place: uint8 of a whole .tflite.
export function fixBatch(model) {
  const view = new DataView(model.buffer, model.byteOffset, model.byteLength);
  for (const subgraph of elements(view, follow(view, 0), SUBGRAPHS)) {
    for (const tensor of elements(view, follow(view, subgraph), TENSORS)) {
      for (const side of elements(view, follow(view, tensor), SHAPE_SIGNATURE)) {
        if (view.getInt32(side, true) === -1) view.setInt32(side, 1, true);
      }
    }
  }
  return model;
}
