"""Engines that run a trained model: uint8 photos in, probabilities out.

    litert        export/model.tflite, with LiteRT; starts fastest and needs least memory
    onnxruntime   export/model.onnx, with ONNX Runtime
    torch         model.safetensors, with the training libraries; networks/runtime.py registers it
                  through the entry-point group `image_classification_trash.runtimes`, so that this package never
                  imports torch

Every engine may be called from several threads at once. `threads` is the number that one call may use.
"""

import io
import os
import queue
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from image_classification_trash.errors import BundleError, MissingExtraError, first_line, install_hint
from image_classification_trash.files import sha256_of
from image_classification_trash.inference.bundle import Bundle, BundleConfig, parse_description, read_bundle
from image_classification_trash.inference.file_digest import check_digest
from image_classification_trash.inference.images import Pixels, Size
from image_classification_trash.inference.shipped import check_shipped, shipped_name

GROUP = "image_classification_trash.runtimes"
DESCRIPTION = "bundle.json"
"""Name of a bundle's description inside an exported file."""
_REDIRECTING = threading.Lock()
"""Held from the first model on."""
Probabilities = npt.NDArray[np.float32]


class Runtime(Protocol):
    """One loaded model: uint8 photos (B, H, W, 3) in, float32 probabilities (B, C) out, rows summing to 1."""

    def __call__(self, photos: Pixels) -> Probabilities:
        """Run one batch."""
        ...


@contextmanager
def without_notices() -> Iterator[None]:
    """Keep lines such as `INFO: Created TensorFlow Lite XNNPACK delegate for CPU.` from standard error.

    LiteRT, which has no switch for them, writes them when a process opens its first model; all else that is written meanwhile
    follows afterwards. Later models change nothing, so that what a server starts meanwhile gets its standard error.
    """
    if not _REDIRECTING.acquire(blocking=False):
        yield
        return
    with ExitStack() as end:
        with suppress(OSError):  # standard error is closed, or no folder takes a temporary file
            said = end.enter_context(tempfile.TemporaryFile())
            stderr = os.dup(2)
            end.callback(_restore_stderr, stderr, said)
            os.dup2(said.fileno(), 2)
        yield


def _restore_stderr(stderr: int, said: IO[bytes]) -> None:
    os.dup2(stderr, 2)
    os.close(stderr)
    said.seek(0)
    for text in said:
        if not text.startswith(b"INFO: "):
            os.write(2, text)


class LiteRtRuntime:
    """A .tflite file in LiteRT. Runs photos one by one: on a CPU a batch is no faster, and takes more memory.

    Args:
        content: bytes of the file; every interpreter is made from them, even if the file is replaced meanwhile.
        path: of the file, for messages.
        threads: threads of one run of the model; None: 1.
    """

    def __init__(self, content: bytes, path: Path, threads: int | None = None) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415  half of a process's start
        except ImportError as error:
            raise _missing("litert", "") from error
        self._interpreter_class: Callable[..., Any] = Interpreter
        self.content = content
        self._path, self._threads = path, threads or 1
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()
        with without_notices():
            interpreter = self._open()
        (given,), (returned,) = interpreter.get_input_details(), interpreter.get_output_details()
        _check_input(path, given["dtype"], given["shape"])
        self._input, self._output = given["index"], returned["index"]
        self.input_size: Size = (int(given["shape"][1]), int(given["shape"][2]))
        self.classes = int(returned["shape"][-1])
        self._idle.put(interpreter)

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of the file; a table of predictions does without it."""
        return sha256_of(self.content)

    def __call__(self, photos: Pixels) -> Probabilities:
        """Run photos uint8 (B, H, W, 3) to probabilities float32 (B, C).

        Raises:
            BundleError: the file is damaged in a way that only a run shows.
        """
        try:  # one interpreter serves one thread at a time
            interpreter = self._idle.get_nowait()
        except queue.Empty:
            interpreter = self._open()
        try:
            answers = [self._run(interpreter, photo) for photo in photos]
            return np.array(answers, np.float32).reshape(len(photos), self.classes)
        except RuntimeError as error:  # a damaged file may load, and fail only where it is run
            raise _unusable(self._path, "run", error) from error
        finally:
            self._idle.put(interpreter)

    def description(self) -> str | None:
        """Read the bundle's description inside the file; None if there is none.

        Raises:
            BundleError: it is damaged.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(self.content)) as packed:
                return packed.read(DESCRIPTION).decode()
        except (zipfile.BadZipFile, KeyError):
            return None
        except (zlib.error, EOFError, ValueError, NotImplementedError) as error:
            raise _unusable(self._path, "loaded", error) from error

    def _run(self, interpreter: Any, photo: Pixels) -> Probabilities:
        interpreter.set_tensor(self._input, photo[None])
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(self._output)[0])

    def _open(self) -> Any:
        try:
            interpreter = self._interpreter_class(model_content=self.content, num_threads=self._threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise _unusable(self._path, "loaded", error) from error
        return interpreter


class OnnxRuntime:
    """An .onnx file in ONNX Runtime; the arguments are those of `LiteRtRuntime`."""

    def __init__(self, content: bytes, path: Path, threads: int | None = None) -> None:
        try:
            import onnxruntime  # noqa: PLC0415  optional
        except ImportError as error:
            raise _missing("onnxruntime", "serve") from error
        self.digest = sha256_of(content)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 1
        options.log_severity_level = 3
        self._path = path
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common base but Exception
            raise _unusable(path, "loaded", error) from error
        (given,), (returned,) = self._session.get_inputs(), self._session.get_outputs()
        _check_input(path, np.uint8 if given.type == "tensor(uint8)" else given.type, given.shape)
        self._input = given.name
        self.input_size: Size = (int(given.shape[1]), int(given.shape[2]))
        self.classes = int(returned.shape[-1])

    def __call__(self, photos: Pixels) -> Probabilities:
        """Run photos uint8 (B, H, W, 3) to probabilities float32 (B, C), one by one: a batch is slower on a CPU.

        Raises:
            BundleError: the file is damaged in a way that only a run shows.
        """
        try:
            answers = [self._session.run(None, {self._input: photo[None]})[0][0] for photo in photos]
            return np.array(answers, np.float32).reshape(len(photos), self.classes)
        except Exception as error:  # a damaged file may load, and fail only where it is run
            raise _unusable(self._path, "run", error) from error

    def description(self) -> str | None:
        """Read the bundle's description inside the file; None if there is none.

        Raises:
            BundleError: it is damaged.
        """
        try:
            text: str | None = self._session.get_modelmeta().custom_metadata_map.get(DESCRIPTION)
        except UnicodeDecodeError as error:
            raise _unusable(self._path, "loaded", error) from error
        return text


FileRuntime = LiteRtRuntime | OnnxRuntime
FILE_RUNTIMES: dict[str, tuple[str, type[LiteRtRuntime] | type[OnnxRuntime]]] = {
    "litert": (".tflite", LiteRtRuntime),
    "onnxruntime": (".onnx", OnnxRuntime),
}
"""Engines that run exported files, preferred ones first, each with the suffix of its files."""


def runtime_names() -> list[str]:
    """Return the names of all engines, whether or not their libraries are installed."""
    return [*FILE_RUNTIMES, *sorted(_registered())]


def engine_name(runtime: Runtime) -> str:
    """Return the name of the engine that a loaded model runs in; the name of its class if it is no known engine's."""
    kind = type(runtime).__name__
    for name, (_, engine) in FILE_RUNTIMES.items():
        if engine.__name__ == kind:
            return name
    names = {str(entry.value).rpartition(":")[2]: name for name, entry in _registered().items()}
    return names.get(kind, kind)


def open_bundle(bundle: Bundle, name: str = "auto", threads: int | None = None) -> Runtime:
    """Load a bundle into an engine; `auto` takes the first one that is installed and whose file is in the bundle.

    Raises:
        BundleError: no engine has that name, or the bundle lacks its file, or the file is damaged.
        MissingExtraError: the engine's library is not installed; names the extra.
    """
    if name != "auto":
        return _open_by_name(bundle, name, threads)
    missing: MissingExtraError | None = None
    for candidate in runtime_names():
        suffix = FILE_RUNTIMES[candidate][0] if candidate in FILE_RUNTIMES else None
        if suffix is not None and not (bundle.path / "export" / f"model{suffix}").exists():
            continue
        try:
            return _open_by_name(bundle, candidate, threads)
        except MissingExtraError as error:
            missing = missing or error
    if missing is not None:
        raise missing
    hint = f"Where torch is installed, run: trash-classifier export {bundle.path}"
    raise BundleError(
        f"{bundle.path} has no exported file, and torch is not installed to run its weights.", hint
    )


def open_file(path: Path, name: str = "auto", threads: int | None = None) -> tuple[BundleConfig, FileRuntime]:
    """Load one exported file, by the description inside.

    Raises:
        BundleError: not an exported file, damaged, or without a description; or `name` does not run it.
        MissingExtraError: the engine's library is not installed; names the extra.
    """
    by_suffix = {suffix: engine for engine, (suffix, _) in FILE_RUNTIMES.items()}
    engine = by_suffix.get(path.suffix)
    if engine is None or not path.is_file():
        found = f"{path} is not a trained model: neither a bundle's folder nor a .tflite or .onnx file."
        raise BundleError(found, "Give what trash-classifier train or trash-classifier export made.")
    if name not in ("auto", engine):
        raise BundleError(f"{path} is run by {engine}, not by {name}.", f"Omit --runtime, or give {engine}.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unusable(path, "loaded", error) from error
    if shipped_name(path):
        check_shipped(path, content)
    else:
        check_digest(content, path)
    runtime = FILE_RUNTIMES[engine][1](content, path, threads)
    text = runtime.description()
    if text is None:
        found = f"{path} contains no description of its outputs: it was not exported by trash-classifier."
        raise BundleError(found, "Give a file from a bundle's export folder.")
    config = parse_description(text, str(path))
    check_fit(path, runtime, config)
    return config, runtime


def read_model(path: Path) -> Bundle:
    """Read a bundle, or one exported file.

    Raises:
        BundleError: neither, or damaged.
        MissingExtraError: the library of the file's engine is not installed.
    """
    return Bundle(path, open_file(path)[0]) if path.is_file() else read_bundle(path)


def check_fit(path: Path, runtime: FileRuntime, config: BundleConfig) -> None:
    """Raise BundleError if a file does not fit the bundle's description."""
    if runtime.classes != len(config.labels):
        found = f"{path} returns {runtime.classes} probabilities, but there are {len(config.labels)} labels."
        raise BundleError(found, "Export the model again.")
    if runtime.input_size != config.input_size:
        found = f"{path} takes photos of {runtime.input_size}, but its description says {config.input_size}."
        raise BundleError(found, "Export the model again.")


def _open_by_name(bundle: Bundle, name: str, threads: int | None) -> Runtime:
    if name in FILE_RUNTIMES:
        suffix, engine = FILE_RUNTIMES[name]
        path, content = bundle.read_exported(f"model{suffix}")
        check_digest(content, path)
        runtime = engine(content, path, threads)
        check_fit(path, runtime, bundle.config)
        return runtime
    registered = _registered()
    if name not in registered:
        raise BundleError(
            f"There is no runtime named {name!r}.", f"Choose one of: {', '.join(['auto', *runtime_names()])}."
        )
    try:
        factory = registered[name].load()
    except ImportError as error:
        raise _missing(name, "train") from error
    loaded: Runtime = factory(bundle, threads)
    return loaded


def _registered() -> dict[str, Any]:
    from importlib.metadata import entry_points  # noqa: PLC0415  slow to import, and a known engine needs none

    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _missing(engine: str, extra: str) -> MissingExtraError:
    return MissingExtraError(
        f"The engine {engine} cannot be loaded: its library is not installed.",
        install_hint(extra) if extra else "Install it with: pip install ai-edge-litert",
    )


def _check_input(path: Path, dtype: Any, shape: Any) -> None:
    if dtype != np.uint8 or len(shape) != 4 or int(shape[-1]) != 3:
        found = (
            f"{path} takes {getattr(dtype, '__name__', dtype)} {list(shape)}, not uint8 photos (B, H, W, 3)."
        )
        raise BundleError(found, "Give a file that trash-classifier export made.")


def _unusable(path: Path, done: str, error: Exception) -> BundleError:
    return BundleError(
        f"{path} cannot be {done}: {first_line(error)}", "Copy the file again, or export the model again."
    )
