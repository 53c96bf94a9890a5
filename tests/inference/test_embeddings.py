"""The embedding model: how it is made, that it is the original in small, and that importing costs nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from inference.embeddings import EmbeddingModelMissing, OnnxEmbedder
from inference.prepare import prepare

MODULES = ("embeddings", "intent", "offline", "handover", "vllm", "model", "breaker", "slots", "extract", "prompt")


def test_importing_this_floor_loads_no_numerical_library() -> None:
    code = (
        "import sys\n"
        + "".join(f"import inference.{name}\n" for name in MODULES)
        + "print([name for name in ('numpy', 'onnxruntime', 'torch', 'tokenizers', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_answering_people_never_loads_torch(model_dir: Path) -> None:
    code = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom inference.embeddings import OnnxEmbedder\n"
        "async def main():\n"
        f"    embedder = OnnxEmbedder(Path({str(model_dir)!r}))\n"
        "    await embedder.embed(['hello'])\n"
        "    await embedder.close()\n"
        "asyncio.run(main())\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


async def test_vectors_are_unit_length_and_in_the_order_of_the_texts(embedder: OnnxEmbedder) -> None:
    vectors = await embedder.embed(["close the ticket", "hello", "close the ticket", ""])
    assert vectors.dtype == np.float32
    assert vectors.shape == (4, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    assert np.array_equal(vectors[0], vectors[2])
    assert (await embedder.embed([])).shape == (0, 384)


async def test_a_vector_does_not_depend_on_the_texts_beside_it(embedder: OnnxEmbedder, model_dir: Path) -> None:
    together = await embedder.embed(["close TCK-12", "word " * 300, "hello"])
    other = OnnxEmbedder(model_dir)
    assert np.array_equal((await other.embed(["close TCK-12"]))[0], together[0])
    await other.close()


async def test_paraphrases_are_nearer_than_strangers(embedder: OnnxEmbedder) -> None:
    first, second, stranger = await embedder.embed(
        ["please close this ticket", "can you mark the ticket as done", "the cat sleeps on the sofa"]
    )
    assert first @ second > first @ stranger + 0.2


async def test_only_the_newest_texts_are_remembered(model_dir: Path) -> None:
    embedder = OnnxEmbedder(model_dir, remembered=2)
    for text in ("one", "two", "one", "three"):
        await embedder.embed([text])
    assert list(embedder._vectors) == ["one", "three"]
    await embedder.close()


async def test_the_model_runs_off_the_event_loop_in_one_thread_that_ends_with_it(model_dir: Path) -> None:
    embedder = OnnxEmbedder(model_dir)
    await asyncio.gather(*(embedder.embed([f"text {number}"]) for number in range(20)))
    assert [thread.name for thread in threading.enumerate()].count("embedding_0") == 1
    await embedder.close()
    assert "embedding_0" not in [thread.name for thread in threading.enumerate()]


async def test_a_missing_model_says_how_to_make_it(tmp_path: Path) -> None:
    embedder = OnnxEmbedder(tmp_path / "nothing")
    with pytest.raises(EmbeddingModelMissing, match=r"python -m inference\.prepare"):
        await embedder.embed(["hello"])
    with pytest.raises(EmbeddingModelMissing):
        _ = embedder.version
    await embedder.close()


def test_a_prepared_folder_is_left_alone(model_dir: Path) -> None:
    steps: list[str] = []
    assert prepare(model_dir, steps.append) == model_dir
    assert steps == []
    assert {path.name for path in model_dir.iterdir()} == {"model.onnx", "tokenizer.json", "meta.json"}
    assert json.loads((model_dir / "meta.json").read_text())["worst_cosine"] >= 0.98


def test_a_damaged_or_half_made_folder_is_made_anew(model_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "minilm"
    folder.mkdir()
    (folder / "meta.json").write_text((model_dir / "meta.json").read_text())
    (folder / "model.onnx").write_bytes(b"half a model")
    (tmp_path / "minilm.partial").mkdir()
    (tmp_path / "minilm.partial" / "left.over").touch()
    steps: list[str] = []
    prepare(folder, steps.append)
    assert steps[-1] == "embedding model ready"
    assert (folder / "model.onnx").stat().st_size > 10_000_000
    assert not (tmp_path / "minilm.partial").exists()
