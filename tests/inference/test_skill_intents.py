"""The skills' intents: fitted once in another process, kept, and as good on paraphrases as on strangers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import intent_texts
import numpy as np
import pytest
import skill_paraphrases

from actions.catalogue import Catalogue
from actions.connectors.sandbox_ticketing import SandboxTicketing
from handlers.router import labels
from handlers.skills.registry import build_skills
from inference import skill_intents
from inference.calibration import calibration_error
from inference.embeddings import OnnxEmbedder
from inference.model import Label, ModelUnavailable
from inference.model_card import WEIGHTS
from inference.prompt import Prompts
from inference.skill_intents import PreparedIntents
from inference.triage import Triage

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so that these labels are fitted once for all tests."""
    return tmp_path_factory.mktemp("models")


def paraphrases() -> list[tuple[str, str]]:
    fresh = [(text, label) for label, texts in skill_paraphrases.PARAPHRASES.items() for text in texts]
    assert len(fresh) >= 150
    return [*intent_texts.IN_SCOPE, *fresh]


STRANGERS = [*intent_texts.OUT_OF_SCOPE, *skill_paraphrases.OTHER_WORK]


async def test_paraphrases_find_their_skill_and_strangers_none(embedder: OnnxEmbedder, folder: Path) -> None:
    intents = PreparedIntents(embedder, intent_texts.LABELS, folder)
    seen = {text for label in intent_texts.LABELS for text in label.examples} | set(skill_intents.out_of_scope_texts())
    assert not seen & {text for text, _ in paraphrases()}
    assert not seen & set(STRANGERS)
    right = [(await intents.decide(text)).label == label for text, label in paraphrases()]
    refused = [(await intents.decide(text)).label is None for text in STRANGERS]
    assert sum(right) / len(right) >= 0.92
    assert sum(refused) / len(refused) >= 0.82


def shipped() -> list[Label]:
    """The product's own skills; the ticketing file is never opened."""
    catalogue = Catalogue([SandboxTicketing(Path("never-opened.db"), "http://127.0.0.1:1")])
    return labels(build_skills(catalogue, Triage(Path("never-made"), OnnxEmbedder(Path("never-made")))))


async def test_the_products_own_skills_are_found_and_nothing_else_is_taken_for_one(
    embedder: OnnxEmbedder, folder: Path
) -> None:
    intents = PreparedIntents(embedder, shipped(), folder)
    found = [((await intents.decide(text)).label, skill_paraphrases.SHIPPED[label]) for text, label in paraphrases()]
    refused = [(await intents.decide(text)).label is None for text in STRANGERS]
    assert sum(label == own for label, own in found) / len(found) >= 0.94
    assert sum(refused) / len(refused) >= 0.88


def test_no_example_of_the_products_skills_is_among_the_texts_they_are_measured_on() -> None:
    measured = {text.casefold().strip(" .?!") for text in (*(text for text, _ in paraphrases()), *STRANGERS)}
    for label in shipped():
        assert 16 <= len(label.examples) == len(set(label.examples))
        assert not measured & {text.casefold().strip(" .?!") for text in label.examples}


def test_a_language_model_is_shown_the_first_eight_examples_of_a_skill_and_no_more() -> None:
    for label in shipped():
        system = str(Prompts().messages("classify", labels=[label], words="hello")[0]["content"])
        assert all(json.dumps(text) in system or text in system for text in label.examples[:8])
        assert not any(f"for example: {json.dumps(text)}" in system for text in label.examples[8:])
        assert system.count("for example:") == 8


async def test_its_confidence_can_be_believed(embedder: OnnxEmbedder, folder: Path) -> None:
    """Expected calibration error over paraphrases and strangers that it was not fitted on."""
    intents = PreparedIntents(embedder, intent_texts.LABELS, folder)
    asked = [*paraphrases(), *((text, None) for text in STRANGERS)]
    found = [(await intents.decide(text), label) for text, label in asked]
    confidence = np.array([each.confidence for each, _ in found])
    right = np.array([each.label == label for each, label in found])
    assert calibration_error(confidence, right, bins=10) < 0.09
    assert confidence[right].mean() > confidence[~right].mean() + 0.1


async def test_the_next_start_loads_what_was_kept(
    embedder: OnnxEmbedder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await PreparedIntents(embedder, intent_texts.LABELS, folder).decide("close TCK-12")

    async def no_process(*arguments: object, **settings: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", no_process)
    assert await PreparedIntents(embedder, intent_texts.LABELS, folder).decide("close TCK-12") == first
    changed = (*intent_texts.LABELS[:-1], Label("mine", "List my open tickets", ("tickets of mine", "mine")))
    with pytest.raises(AssertionError, match="fitted again"):
        await PreparedIntents(embedder, changed, folder).warm()


def folders(where: Path) -> list[Path]:
    return list(where.iterdir())


async def test_a_damaged_folder_is_fitted_anew(embedder: OnnxEmbedder, tmp_path: Path) -> None:
    await PreparedIntents(embedder, intent_texts.LABELS, tmp_path).warm()
    (kept,) = folders(tmp_path)
    (kept / WEIGHTS).write_bytes(b"torn")
    found = await PreparedIntents(embedder, intent_texts.LABELS, tmp_path).decide("close TCK-12")
    assert found.label == "close"
    assert folders(tmp_path) == [kept]


async def test_however_many_ask_first_it_is_fitted_once_and_the_loop_goes_on(
    embedder: OnnxEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = 0
    start = asyncio.create_subprocess_exec

    async def counted(*arguments: str, **settings: object) -> asyncio.subprocess.Process:
        nonlocal started
        started += 1
        return await start(*arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", counted)
    intents = PreparedIntents(embedder, intent_texts.LABELS, tmp_path)
    impatient = asyncio.create_task(intents.decide("help"))
    others = [asyncio.create_task(intents.decide("close TCK-12")) for _ in range(5)]
    await asyncio.sleep(0)
    impatient.cancel()
    answers = await asyncio.gather(*others)
    assert started == 1
    assert {answer.label for answer in answers} == {"close"}
    assert impatient.cancelled()


async def test_a_fit_that_fails_is_said_and_tried_again(
    embedder: OnnxEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "models"
    blocked.write_text("a file where the folder should be")
    intents = PreparedIntents(embedder, intent_texts.LABELS, blocked)
    with pytest.raises(ModelUnavailable, match=r"could not be fitted: .*models"):
        await intents.decide("close TCK-12")
    blocked.unlink()
    assert (await intents.decide("close TCK-12")).label == "close"


async def test_an_embedder_that_is_away_is_asked_again_later(embedder: OnnxEmbedder, folder: Path) -> None:
    class Away:
        away = True
        version = embedder.version

        async def embed(self, texts: Sequence[str]):  # type: ignore[no-untyped-def]
            if self.away:
                raise ModelUnavailable("the embedding server is away")
            return await embedder.embed(texts)

    away = Away()
    intents = PreparedIntents(away, intent_texts.LABELS, folder)
    with pytest.raises(ModelUnavailable, match="away"):
        await intents.decide("close TCK-12")
    away.away = False
    assert (await intents.decide("close TCK-12")).label == "close"


async def test_closing_ends_a_fit_that_is_under_way(embedder: OnnxEmbedder, tmp_path: Path) -> None:
    intents = PreparedIntents(embedder, intent_texts.LABELS, tmp_path)
    waiting = asyncio.create_task(intents.warm())
    await asyncio.sleep(0)
    await intents.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_a_label_with_one_text_is_refused_at_once(embedder: OnnxEmbedder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'empty' needs a description and an example"):
        PreparedIntents(embedder, (Label("empty", "One text"),), tmp_path)


def test_scikit_learn_never_enters_the_process_that_answers_and_it_stays_small(model_dir: Path, folder: Path) -> None:
    code = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import intent_texts
from inference.embeddings import OnnxEmbedder
from inference.prompt import Prompts
from inference.skill_intents import PreparedIntents

async def main():
    embedder = OnnxEmbedder(Path({str(model_dir)!r}))
    intents = PreparedIntents(embedder, intent_texts.LABELS, Path({str(folder)!r}))
    print((await intents.decide("close TCK-12")).label)
    await embedder.close()

asyncio.run(main())
print([name for name in ("sklearn", "scipy", "torch") if name in sys.modules])
print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    label, loaded, kilobytes = done.stdout.splitlines()
    assert (label, loaded) == ("close", "[]")
    assert int(kilobytes) < 200_000
