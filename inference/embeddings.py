"""Sentence embeddings: the protocol, and the int8 ONNX model that answers in the process that answers people.

Importing this module costs nothing: numpy, onnxruntime and the model are loaded on the first text, in the one thread
that also runs the model, so that an idle web process stays small and the event loop never waits for a matrix.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from inference.model import ModelUnavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIMENSIONS = 384
"""Length of one vector of all-MiniLM-L6-v2."""

LONGEST_TEXT = 256
"""Tokens of a text that are read; the model was trained on no more (its `sentence_bert_config.json`)."""

TEXTS_PER_TURN = 8
"""Texts embedded before another caller gets the thread: a long thread must not hold up a person's one message."""


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
        """Vectors of the texts in order: float32 [n, 384], each of length 1."""
        ...


class OnnxEmbedder:
    """all-MiniLM-L6-v2 as int8 ONNX on one thread: about 1 to 3 ms a short message.

    Texts are run one at a time, never in a batch: int8 activations are scaled over the whole input, so a text's
    vector would otherwise depend on its neighbours (cosine down to 0.97), and short texts gain nothing from company.
    """

    def __init__(self, model_dir: Path, *, remembered: int = 2048) -> None:
        """`model_dir` is what `inference.prepare` made; `remembered` texts keep their vector (1.5 KB each)."""
        self._model_dir = model_dir
        self._remembered = remembered
        self._vectors: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedding")
        self._model: _Model | None = None

    @cached_property
    def version(self) -> str:
        """Digest of the model file. Raises `EmbeddingModelMissing`."""
        return str(_read_meta(self._model_dir)["model_sha256"])

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Embedder.embed`. Raises `EmbeddingModelMissing`."""
        loop = asyncio.get_running_loop()
        found = {text: self._vectors[text] for text in texts if text in self._vectors}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        for start in range(0, len(missing), TEXTS_PER_TURN):
            turn = missing[start : start + TEXTS_PER_TURN]
            found.update(zip(turn, await loop.run_in_executor(self._thread, self._run, turn), strict=True))
        for text in found:
            self._vectors[text] = found[text]
            self._vectors.move_to_end(text)
        while len(self._vectors) > self._remembered:
            self._vectors.popitem(last=False)
        return await loop.run_in_executor(self._thread, _stack, [found[text] for text in texts])

    async def close(self) -> None:
        """Stop the thread once what it is running is done, and drop the model."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        self._model = None
        self._vectors.clear()

    def _run(self, texts: list[str]) -> list[NDArray[np.float32]]:
        if self._model is None:
            self._model = _Model(self._model_dir)
        return [self._model.embed(text) for text in texts]


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


def _read_meta(model_dir: Path) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = json.loads((model_dir / "meta.json").read_text())
    except FileNotFoundError:
        raise EmbeddingModelMissing(
            f"no embedding model in {model_dir}: run `python -m inference.prepare {model_dir}`"
        ) from None
    return meta
