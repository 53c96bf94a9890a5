"""Sentence embeddings: the protocol, and the int8 ONNX model that answers in the process that answers people.

Importing this module costs nothing: numpy, onnxruntime and the model are loaded on the first text, in the one thread
that also runs the model, so that an idle web process stays small and the event loop never waits for a matrix.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from inference.model import ModelUnavailable
from inference.rota import RememberedVectors, Rota

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from inference.rota import Vector

DIMENSIONS = 384
"""Length of one vector of all-MiniLM-L6-v2, and of an encoder tuned from it."""

LONGEST_TEXT = 256
"""Tokens of a text that are read; the model was trained on no more (its `sentence_bert_config.json`)."""

INSTALLED = Path("models", "encoder")
"""Where a tuned encoder is installed, in the data folder."""

FITTING_RECIPE = 1
"""The form of folder that this module loads; `inference.prepare` writes it into `meta.json`."""


class EmbeddingModelMissing(ModelUnavailable):
    """The model folder is not prepared. The message says how to prepare it."""


class Embedder(Protocol):
    """Turns texts into vectors whose dot product is their likeness.

    vectors = await embedder.embed(["close TCK-12", "please shut ticket 12"])
    likeness = float(vectors[0] @ vectors[1])
    """

    @property
    def version(self) -> str:
        """Changes whenever the same text would get another vector; part of every cache key and index built on it."""
        ...

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of the texts in order: float32 [n, dimensions], each of length 1."""
        ...


class OnnxEmbedder:
    """all-MiniLM-L6-v2, or an encoder tuned from it, as int8 ONNX on one thread: about 1 to 3 ms a short message.

    The thread is woken once and runs until nobody waits; callers that come meanwhile take turns in it, text by text.
    Texts are run one at a time, never in a batch: int8 activations are scaled over the whole input, so a text's
    vector would otherwise depend on its neighbours (cosine down to 0.97), and short texts gain nothing from company.

    Memory: a process with the model loaded and nothing else stays under 200 MB resident (measured: 130).
    """

    def __init__(self, model_dir: Path, *, remembered: int = 2048) -> None:
        """`model_dir` is what `inference.prepare` or `inference.finetune` made; `remembered` texts keep their vector
        (1.5 KB each)."""
        self._model_dir = model_dir
        self._remembered = RememberedVectors(remembered)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedding")
        self._model: _Model | None = None
        self._rota = Rota()
        self._guard = threading.Lock()
        """Held for moments, by the loop and by the thread: whoever has it touches `_rota` and `_running`."""
        self._running = False
        self._closed = False

    @cached_property
    def version(self) -> str:
        """Digest of the model file. Raises `EmbeddingModelMissing`."""
        return str(_read_meta(self._model_dir)["model_sha256"])

    async def warm(self) -> None:
        """Load the model off the event loop, so that the first message need not wait. Raises `ModelUnavailable`."""
        await self.embed(["warm up"])

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Embedder.embed`. Raises `ModelUnavailable`, also once closed, and `EmbeddingModelMissing`."""
        if not texts:
            # numpy may not be loaded yet, and takes a tenth of a second.
            return await asyncio.to_thread(_stack, [])
        found = self._remembered.of(texts)
        missing = [text for text in texts if text not in found]
        if missing:
            found.update(await self._found_by_model(missing))
            self._remembered.add(found)
        return _stack([found[text] for text in texts])

    async def close(self) -> None:
        """Refuse what waits, stop the thread once the text it runs is done, and drop the model."""
        self._closed = True
        with self._guard:
            self._rota.abandon(ModelUnavailable("the embedding model was closed"))
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        self._model = None
        self._remembered.clear()

    async def _found_by_model(self, texts: Sequence[str]) -> dict[str, Vector]:
        if self._closed:
            raise ModelUnavailable("the embedding model was closed")
        with self._guard:
            caller = self._rota.enter(texts)
            wake = not self._running
            self._running = True
        if wake:
            self._thread.submit(self._run, asyncio.get_running_loop())
        try:
            await caller.done
        finally:
            with self._guard:
                self._rota.leave(caller)
        return caller.found

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        """On the thread: one text after the other until none waits."""
        while True:
            with self._guard:
                taken = [] if self._closed else self._rota.take(1)
                if not taken:
                    self._running = False
                    return
            outcome: Vector | Exception
            try:
                if self._model is None:
                    self._model = _Model(self._model_dir)
                outcome = self._model.embed(taken[0])
            except Exception as error:
                outcome = error if isinstance(error, ModelUnavailable) else _unreadable(error)
            loop.call_soon_threadsafe(self._settle, taken[0], outcome)

    def _settle(self, text: str, outcome: Vector | Exception) -> None:
        with self._guard:
            self._rota.settle(text, outcome)


def _unreadable(error: Exception) -> ModelUnavailable:
    # The runtime's own message may quote the text.
    return ModelUnavailable(f"the embedding model could not read a text ({type(error).__name__})")


class _Model:
    """The loaded session and tokenizer; lives on the embedding thread only."""

    def __init__(self, model_dir: Path) -> None:
        import numpy
        import onnxruntime
        from tokenizers import Tokenizer

        _read_meta(model_dir)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # A spinning thread burns a core that the event loop needs, for nothing on one thread.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # The arena keeps the peak of the longest text for ever; without it the process stays small.
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(
            str(model_dir / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer: Any = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        # The file that comes with the model pads every text to 128 tokens: four times the work for a short one.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(LONGEST_TEXT)
        self._array = numpy.array

    def embed(self, text: str) -> NDArray[np.float32]:
        encoded = self._tokenizer.encode(text)
        inputs = {
            "input_ids": self._array([encoded.ids]),
            "attention_mask": self._array([encoded.attention_mask]),
            "token_type_ids": self._array([encoded.type_ids]),
        }
        vector: NDArray[np.float32] = self._session.run(["embedding"], inputs)[0][0]
        return vector


def _stack(vectors: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    import numpy

    return numpy.stack(vectors) if vectors else numpy.zeros((0, DIMENSIONS), dtype=numpy.float32)


def encoder_folder(data: Path, stock: Path) -> Path:
    """Where the encoder of an installation is: the tuned one in its data folder where it fits, else the stock one.

    It fits when it is whole and was exported the way this version loads (`inference.prepare.RECIPE`).
    """
    tuned = data / INSTALLED
    try:
        fits = _read_meta(tuned).get("recipe") == FITTING_RECIPE and (tuned / "model.onnx").is_file()
    except (EmbeddingModelMissing, ValueError):
        return stock
    return tuned if fits else stock


def _read_meta(model_dir: Path) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = json.loads((model_dir / "meta.json").read_text())
    except FileNotFoundError:
        raise EmbeddingModelMissing(
            f"no embedding model in {model_dir}: run `python -m inference.prepare {model_dir}`"
        ) from None
    return meta
