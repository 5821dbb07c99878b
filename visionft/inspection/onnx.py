"""An exported inspector at work: one ONNX file, onnxruntime or OpenVINO, and no torch."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np

from visionft.arrays import Bools, Floats
from visionft.data.decode import Reading
from visionft.errors import CheckpointError, ConfigError, DataError, first_line
from visionft.log import Console

from .asked import asked
from .frame import Frame
from .verdict import Verdict
from .where import Scale

if TYPE_CHECKING:
    from .line.watch import Watched
    from .promise import Promise

OUTPUTS = ("score", "p_value", "reject", "each", "heat")
KEY = "visionft"  # of the file's metadata: JSON
Engine = Literal["onnxruntime", "openvino"]
Run = Callable[[np.ndarray], list[np.ndarray]]  # photos, B H W C of uint8 -> OUTPUTS


class OnnxInspector:
    """Judges photos as the inspector does that was exported; the file holds all that this takes.

    threads: that one photo may keep busy; 0 is as many as the engine thinks best
    """

    def __init__(self, file: str | Path, *, engine: Engine = "onnxruntime", threads: int = 0) -> None:
        if not Path(file).is_file():
            raise CheckpointError(f"{file} does not exist")
        if engine not in ENGINES:
            raise ConfigError(f"there is no engine {engine!r}; there is {' and '.join(ENGINES)}")
        try:
            self.run, told = ENGINES[engine](Path(file), threads)
        except ModuleNotFoundError as error:
            extra = "export" if engine == "onnxruntime" else engine
            raise ConfigError(f'{error.name} is missing: pip install "visionft[{extra}]"') from error
        except Exception as error:  # each engine has its own
            raise CheckpointError(f"{engine} cannot read {file}: {first_line(error)}") from error
        if KEY not in told:
            raise CheckpointError(f"{file} is no inspector: `visionft inspect export` writes one")
        self.facts: dict[str, Any] = json.loads(told[KEY])
        self.size: tuple[int, int] = (self.facts["size"][0], self.facts["size"][1])
        self.images: Reading = self.facts["images"]
        self.frame = Frame(tuple(self.facts["border"]), unpacked(self.facts["region"]))
        self.scale = Scale(**self.facts["scale"])

    @cached_property
    def signs(self) -> Floats:
        """N S, of the good parts that it was fitted to, held out: see `visionft.inspection.signs`."""
        return np.array(self.facts["signs"]["good"])

    @cached_property
    def promise(self) -> Promise:
        """The promise that the file keeps."""
        from .promise import Promise

        return Promise.of(self.signs[:, 0], self.facts["false_reject"], self.facts["confidence"])

    def predict(self, images: Any, *, quiet: bool = True) -> Verdict | list[Verdict]:
        """Judge a file or an array (H W or H W C, uint8): one verdict; or a list of these or a folder: a list.

        Raises DataError naming a file that cannot be read, or that is of another size.
        """
        return asked(images, self.images, lambda pixels, names: self.judge(pixels, names, Console(quiet=quiet)))

    def judge(
        self, pixels: Sequence[np.ndarray], names: Sequence[str], console: Console | None = None
    ) -> list[Verdict]:
        """Judge decoded images, one at a time."""
        progress, found = (console or Console(quiet=True)).progress("photos"), list[Verdict]()
        for at, name in enumerate(names):
            image = pixels[at]
            if image.shape[:2] != self.size:
                raise DataError(f"{name} is of {_sides(image.shape)}, and this inspector judges {_sides(self.size)}")
            found.append(self._verdict(name, self.run(np.ascontiguousarray(image[None])), pixels, at))
            progress(at + 1, len(names))
        return found

    def gray(self) -> np.ndarray:
        """A photo of nothing, H W C."""
        return np.full((*self.size, self.images["channels"]), 128, np.uint8)

    def watch(self, source: Any, **words: Any) -> Watched:
        """Judge what a camera, video or folder brings, as `Inspector.watch` does."""
        from .line.watch import watching

        return watching(self, source, **words)

    def _verdict(self, name: str, said: Sequence[np.ndarray], pixels: Sequence[np.ndarray], at: int) -> Verdict:
        score, p, reject, each, heat = (output[0] for output in said)
        ranks = self.facts["good"] + 1  # float32 has not the last digits of a p-value, but tells them apart
        doubtful = self.facts["unsure_from"]
        unsure = doubtful is not None and not reject and float(score) >= doubtful
        return Verdict(
            name, float(score), round(float(p) * ranks) / ranks, bool(reject), tuple(each.tolist()),
            heat.astype(np.float64), self.size, self.frame, self.scale, self.facts["mm_per_pixel"],
            pixels, at, unsure,
        )  # fmt: skip


def packed(mask: Bools | None) -> str | None:
    """A mask as text: the bytes of a PNG."""
    if mask is None:
        return None
    return base64.b64encode(cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()).decode()


def unpacked(text: str | None) -> Bools | None:
    """The mask that `packed` made a text of."""
    if text is None:
        return None
    image = np.asarray(cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_GRAYSCALE))
    return image > 127


def _onnxruntime(file: Path, threads: int) -> tuple[Run, Mapping[str, str]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_mem_pattern = False  # saves no time and takes twice the memory: for 20 megapixels 8.6 GB, not 4.5
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names: list[str] = [output.name for output in session.get_outputs()]
    return lambda photos: session.run(names, {"photos": photos}), session.get_modelmeta().custom_metadata_map


def _openvino(file: Path, threads: int) -> tuple[Run, Mapping[str, str]]:
    import openvino

    model = openvino.Core().read_model(str(file))
    exact = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}  # else bf16 where the processor has it
    limit = {"INFERENCE_NUM_THREADS": threads} if threads else {}
    compiled = openvino.Core().compile_model(model, "CPU", {**exact, **limit})

    def run(photos: np.ndarray) -> list[np.ndarray]:
        found = compiled(photos)
        return [np.array(found[at]) for at in range(len(OUTPUTS))]

    return run, model.get_rt_info("framework").value if model.has_rt_info("framework") else {}


ENGINES: Mapping[str, Callable[[Path, int], tuple[Run, Mapping[str, str]]]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}


def _sides(size: Sequence[int]) -> str:
    return f"{size[1]} x {size[0]} pixels"
