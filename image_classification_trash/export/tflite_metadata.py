"""Add metadata to a .tflite file: TFLite's own, and the files that it names.

The readers of Android and MediaPipe look for a flatbuffer named TFLITE_METADATA and for files in a zip appended to the
model, which Python reads with `zipfile`. Source: the TFLite metadata schema, version 1.

Own code, because the library tflite-support, which writes such metadata, has no wheels for Python 3.12 and later.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from image_classification_trash.export.tflite_writer import pack
from image_classification_trash.inference.bundle import LABELS, BundleConfig
from image_classification_trash.inference.file_digest import sealed_tflite

BUFFER = "TFLITE_METADATA"
_IDENTIFIER = b"M001"
_IMAGE_PROPERTIES, _NORMALIZATION, _RGB, _AXIS_LABELS, _DESCRIPTIONS = 2, 1, 1, 2, 1
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed date, so that the same files give the same bytes


def with_metadata(model: bytes, config: BundleConfig, files: Mapping[str, str | bytes]) -> bytes:
    """Return a .tflite model with its metadata, files and a digest inside.

    Args:
        model: as the converter returned it.
        config: of the bundle.
        files: by name; `labels.txt` is associated with the output.
    """
    table = schema.ModelT.InitFromPackedBuf(model, 0)
    table.description = config.name
    table.metadata = [entry for entry in table.metadata or [] if entry.name != BUFFER.encode()]
    entry, buffer = schema.MetadataT(), schema.BufferT()
    buffer.data = np.frombuffer(_metadata(config, sorted(files)), np.uint8)
    entry.name, entry.buffer = BUFFER, len(table.buffers)
    table.buffers.append(buffer)
    table.metadata.append(entry)
    packed = io.BytesIO(pack(table))
    packed.seek(0, io.SEEK_END)
    with zipfile.ZipFile(packed, "a") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), text)
    return sealed_tflite(packed.getvalue())


def _metadata(config: BundleConfig, files: Sequence[str]) -> bytes:
    b = flatbuffers.Builder(1024)
    size = _table(b, uint32s={0: config.input_width, 1: config.input_height})
    properties = _table(b, offsets={1: size}, int8s={0: _RGB})
    content = _table(b, offsets={1: properties}, uint8s={0: _IMAGE_PROPERTIES})
    # Scaling and normalisation are inside the graph: the caller's normalisation is (pixel - 0) / 1.
    options = _table(b, offsets={0: _floats(b, [0.0]), 1: _floats(b, [1.0])})
    unit = _table(b, offsets={1: options}, uint8s={0: _NORMALIZATION})
    photo = _table(
        b,
        offsets={
            0: b.CreateString("images"),
            1: b.CreateString("RGB photo, 0 to 255, upright; EXIF orientation applied, alpha over white"),
            3: content,
            4: _offsets(b, [unit]),
            5: _table(b, offsets={0: _floats(b, [255.0]), 1: _floats(b, [0.0])}),
        },
    )
    labels = _table(b, offsets={0: b.CreateString(LABELS)}, int8s={2: _AXIS_LABELS})
    answer = _table(
        b,
        offsets={
            0: b.CreateString("probability"),
            1: b.CreateString(f"calibrated probabilities in the order of {LABELS}"),
            5: _table(b, offsets={0: _floats(b, [1.0]), 1: _floats(b, [0.0])}),
            6: _offsets(b, [labels]),
        },
    )
    others = [
        _table(b, offsets={0: b.CreateString(n)}, int8s={2: _DESCRIPTIONS}) for n in files if n != LABELS
    ]
    graph = _table(b, offsets={2: _offsets(b, [photo]), 3: _offsets(b, [answer])})
    model = {
        0: b.CreateString(config.name),
        1: b.CreateString(f"{config.architecture}: {', '.join(config.labels)}"),
        2: b.CreateString(config.git_commit),
        3: _offsets(b, [graph]),
        5: b.CreateString(config.license),
        6: _offsets(b, others),
        7: b.CreateString("1.0.0"),
    }
    b.Finish(_table(b, offsets=model), file_identifier=_IDENTIFIER)
    return bytes(b.Output())


def _table(
    b: flatbuffers.Builder,
    offsets: Mapping[int, int] | None = None,
    int8s: Mapping[int, int] | None = None,
    uint8s: Mapping[int, int] | None = None,
    uint32s: Mapping[int, int] | None = None,
) -> int:
    """Write a table from the slots of its fields in the schema to their values; returns its offset."""
    b.StartObject(10)
    for slot, value in (offsets or {}).items():
        b.PrependUOffsetTRelativeSlot(slot, value, 0)
    for slot, value in (uint32s or {}).items():
        b.PrependUint32Slot(slot, value, 0)
    for slot, value in (int8s or {}).items():
        b.PrependInt8Slot(slot, value, 0)
    for slot, value in (uint8s or {}).items():
        b.PrependUint8Slot(slot, value, 0)
    return int(b.EndObject())


def _floats(b: flatbuffers.Builder, values: Sequence[float]) -> int:
    return int(b.CreateNumpyVector(np.array(values, np.float32)))


def _offsets(b: flatbuffers.Builder, values: Sequence[int]) -> int:
    b.StartVector(4, len(values), 4)
    for value in reversed(values):
        b.PrependUOffsetTRelative(value)
    return int(b.EndVector())
