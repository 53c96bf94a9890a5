"""The embedding model: how it is made, that it is the original in small, and that importing costs nothing."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from inference.embeddings import INSTALLED, EmbeddingModelMissing, OnnxEmbedder, _Model, encoder_folder
from inference.model import ModelUnavailable
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
    ran = Ran(embedder)
    for text in ("one", "two", "one", "three", "one", "two"):
        await embedder.embed([text])
    assert ran.texts == ["one", "two", "three", "two"]
    await embedder.close()


class Ran:
    """Looks into the thread: which texts the model ran, and a gate that holds it at one of them."""

    def __init__(self, embedder: OnnxEmbedder, *, hold_at: str | None = None, fail_at: str | None = None) -> None:
        self.texts: list[str] = []
        self.held, self.go_on = threading.Event(), threading.Event()
        model = _Model(embedder._model_dir)
        embedder._model = model
        run = model.embed

        def watched(text: str) -> np.ndarray:
            self.texts.append(text)
            if text == hold_at:
                self.held.set()
                assert self.go_on.wait(20)
            if text == fail_at:
                raise RuntimeError(f"quotes {text}")
            return run(text)

        model.embed = watched  # type: ignore[method-assign]

    async def holds(self) -> None:
        """Wait until the model is at the text it is held at."""
        assert await asyncio.to_thread(self.held.wait, 20)


async def test_one_message_does_not_wait_for_the_rest_of_a_long_thread(model_dir: Path) -> None:
    embedder = OnnxEmbedder(model_dir)
    ran = Ran(embedder, hold_at="part 0")
    thread = asyncio.create_task(embedder.embed([f"part {number}" for number in range(10)]))
    await ran.holds()
    message = asyncio.create_task(embedder.embed(["close TCK-12"]))
    await asyncio.sleep(0)
    ran.go_on.set()
    await message
    assert ran.texts.index("close TCK-12") <= 2
    assert not thread.done()
    assert (await thread).shape == (10, 384)
    await embedder.close()


async def test_texts_of_concurrent_callers_run_once_and_in_one_stay_of_the_thread(model_dir: Path) -> None:
    embedder = OnnxEmbedder(model_dir)
    ran = Ran(embedder, hold_at="first")
    stays: list[object] = []
    submit = embedder._thread.submit
    embedder._thread.submit = lambda *work: stays.append(work) or submit(*work)  # type: ignore[method-assign,func-returns-value,assignment]
    first = asyncio.create_task(embedder.embed(["first"]))
    await ran.holds()
    others = [asyncio.create_task(embedder.embed(["first", "same", f"own {number}"])) for number in range(20)]
    await asyncio.sleep(0)
    ran.go_on.set()
    found = await asyncio.gather(first, *others)
    assert sorted(ran.texts) == sorted({"first", "same", *(f"own {number}" for number in range(20))})
    assert len(stays) == 1
    assert all(np.array_equal(each[0], found[0][0]) for each in found)
    await embedder.close()


async def test_a_caller_that_leaves_neither_stops_the_others_nor_costs_them_time(model_dir: Path) -> None:
    embedder = OnnxEmbedder(model_dir)
    ran = Ran(embedder, hold_at="shared")
    leaves = asyncio.create_task(embedder.embed(["shared", "nobody wants this now"]))
    await ran.holds()
    stays = asyncio.create_task(embedder.embed(["shared", "mine"]))
    await asyncio.sleep(0)
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    ran.go_on.set()
    assert (await stays).shape == (2, 384)
    assert ran.texts == ["shared", "mine"]
    await embedder.close()


async def test_a_text_that_breaks_the_model_fails_its_own_caller_only_and_is_not_quoted(model_dir: Path) -> None:
    embedder = OnnxEmbedder(model_dir)
    ran = Ran(embedder, hold_at="first", fail_at="bad")
    first = asyncio.create_task(embedder.embed(["first"]))
    await ran.holds()
    bad, good = asyncio.create_task(embedder.embed(["fine", "bad"])), asyncio.create_task(embedder.embed(["good"]))
    await asyncio.sleep(0)
    ran.go_on.set()
    with pytest.raises(ModelUnavailable) as failure:
        await bad
    assert "bad" not in str(failure.value)
    assert (await good).shape == (1, 384)
    await first
    await embedder.close()


async def test_closing_refuses_who_waits_and_who_comes_later(model_dir: Path) -> None:
    embedder = OnnxEmbedder(model_dir)
    ran = Ran(embedder, hold_at="first")
    waiting = [asyncio.create_task(embedder.embed([text])) for text in ("first", "second")]
    await ran.holds()
    closing = asyncio.create_task(embedder.close())
    await asyncio.sleep(0)
    ran.go_on.set()
    await closing
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, ModelUnavailable)
    with pytest.raises(ModelUnavailable, match="closed"):
        await embedder.embed(["late"])
    assert ran.texts == ["first"]


async def test_a_warm_embedder_has_its_model_before_the_first_message(model_dir: Path) -> None:
    embedder = OnnxEmbedder(model_dir)
    await embedder.warm()
    assert embedder._model is not None
    await embedder.close()


def test_a_process_with_the_model_keeps_to_its_memory_budget(model_dir: Path) -> None:
    code = (
        "import asyncio, psutil\nfrom pathlib import Path\nfrom inference.embeddings import OnnxEmbedder\n"
        "async def main():\n"
        f"    embedder = OnnxEmbedder(Path({str(model_dir)!r}))\n"
        "    await embedder.embed(['word ' * 300, *(f'text {number}' for number in range(50))])\n"
        "    print(psutil.Process().memory_info().rss // 2**20)\n"
        "    await embedder.close()\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200


def test_a_tuned_encoder_is_used_where_it_is_whole_and_fits(model_dir: Path, tmp_path: Path) -> None:
    installed = tmp_path / INSTALLED
    assert encoder_folder(tmp_path, model_dir) == model_dir
    shutil.copytree(model_dir, installed)
    assert encoder_folder(tmp_path, model_dir) == installed
    meta = json.loads((installed / "meta.json").read_text())
    (installed / "meta.json").write_text(json.dumps({**meta, "recipe": meta["recipe"] + 1}))
    assert encoder_folder(tmp_path, model_dir) == model_dir
    (installed / "meta.json").write_text("half a fi")
    assert encoder_folder(tmp_path, model_dir) == model_dir


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
