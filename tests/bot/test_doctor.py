"""What the doctor says of language models and embeddings: who answers, what they serve, and what may go there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bot import doctor
from bot.doctor import Finding, examine, examine_model
from bot.model_settings import EndpointSettings
from bot.settings import Settings, load_settings

KEY = "sk-hunter2"


class Models:
    """A server of models that takes one key, moves to a place of its own, and may never answer."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        self.silent = False
        self.served = ["tiny", "large"]

    async def models(self, request: web.Request) -> web.Response:
        self.seen.append(dict(request.headers))
        if self.silent:
            await asyncio.Event().wait()
        if request.headers.get("Authorization") not in (None, f"Bearer {KEY}"):
            return web.json_response({"error": "invalid key"}, status=401)
        return web.json_response({"data": [{"id": name} for name in self.served]})

    async def moved(self, request: web.Request) -> web.Response:
        raise web.HTTPFound("/v1/models")

    async def embeddings(self, request: web.Request) -> web.Response:
        if (await request.json())["model"] != "minilm":
            return web.json_response({"error": "no such model"}, status=404)
        return web.json_response({"data": [{"index": 0, "embedding": [0.1] * 384}]})


@pytest.fixture
def models() -> Models:
    return Models()


@pytest.fixture
async def server(models: Models, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TestServer]:
    monkeypatch.setattr(doctor, "PATIENCE", timedelta(milliseconds=500))
    app = web.Application()
    app.router.add_get("/v1/models", models.models)
    app.router.add_get("/moved/v1/models", models.moved)
    app.router.add_post("/v1/embeddings", models.embeddings)
    server = TestServer(app)
    await server.start_server()
    yield server
    await server.close()


def configured(server: TestServer, folder: Path, **variables: str) -> Settings:
    url = str(server.make_url("")).rstrip("/")
    model = {"VLLM_BASE_URL": url, "VLLM_MODEL": "tiny"}
    return load_settings({"REDIS_URL": "unix:///not-used", **model, **variables}, data=folder)


def of(part: str, findings: list[Finding]) -> Finding:
    return next(finding for finding in findings if finding.part == part)


async def test_a_model_inside_may_receive_everything(server: TestServer, tmp_path: Path) -> None:
    finding = await examine_model(configured(server, tmp_path))
    assert finding == Finding("model", True, "tiny is served; 127.0.0.1 is inside, so everything may go there")


@pytest.mark.parametrize(
    ("receives", "good", "said"),
    [
        ("nothing", False, "receives nothing: every request stays with the offline engine; set VLLM_RECEIVES"),
        ("own-words", True, "outside and receives what people ask it themselves, no messages of others"),
        ("everything", True, "outside and receives everything, from internal places only"),
    ],
)
async def test_of_a_model_outside_it_says_what_goes_there(
    server: TestServer, tmp_path: Path, receives: str, good: bool, said: str
) -> None:
    settings = configured(server, tmp_path, VLLM_LOCATION="outside", VLLM_RECEIVES=receives)
    finding = await examine_model(settings)
    assert finding.good is good
    assert said in finding.text


async def test_the_rich_model_is_looked_at_by_its_own_variables(server: TestServer, tmp_path: Path) -> None:
    url = str(server.make_url(""))
    settings = configured(server, tmp_path, VLLM_RICH_BASE_URL=url, VLLM_RICH_MODEL="huge")
    findings = await examine(settings)
    assert of("model", findings).good
    rich = of("rich model", findings)
    assert not rich.good
    assert rich.text == "VLLM_RICH_MODEL huge is not served; the server has 'tiny', 'large'"


async def test_a_service_with_many_models_is_not_told_in_full(
    server: TestServer, models: Models, tmp_path: Path
) -> None:
    models.served = [f"model-{number}" for number in range(60)]
    finding = await examine_model(configured(server, tmp_path))
    assert "'model-4', …" in finding.text
    assert "model-5'" not in finding.text


async def test_a_key_that_is_refused_is_named_by_its_variable_and_not_shown(server: TestServer, tmp_path: Path) -> None:
    wrong = await examine_model(configured(server, tmp_path, VLLM_API_KEY="sk-wrong"))
    assert not wrong.good
    assert "does not take VLLM_API_KEY (401)" in wrong.text
    assert "sk-wrong" not in wrong.text
    assert (await examine_model(configured(server, tmp_path, VLLM_API_KEY=KEY))).good


async def test_a_key_does_not_follow_a_redirect(server: TestServer, models: Models, tmp_path: Path) -> None:
    settings = configured(server, tmp_path, VLLM_API_KEY=KEY)
    assert settings.model.fast is not None
    moved: EndpointSettings = replace(settings.model.fast, base_url=f"{settings.model.fast.base_url}/moved")
    finding = await examine_model(replace(settings, model=replace(settings.model, fast=moved)))
    assert "does not say what it serves (302)" in finding.text
    assert models.seen == []


async def test_a_server_that_never_answers_holds_nobody_up(server: TestServer, models: Models, tmp_path: Path) -> None:
    models.silent = True
    async with asyncio.timeout(5):
        finding = await examine_model(configured(server, tmp_path))
    assert finding.text.endswith("does not answer (TimeoutError)")


async def test_an_embedding_server_is_asked_for_a_vector(server: TestServer, tmp_path: Path) -> None:
    url = str(server.make_url("/v1"))
    for name, good, said in (("minilm", True, "384 numbers a text"), ("other", False, "no vectors of other (404)")):
        settings = configured(server, tmp_path, EMBEDDINGS_URL=url, EMBEDDINGS_MODEL=name)
        finding = of("embeddings", await examine(settings))
        assert finding.good is good
        assert said in finding.text


@pytest.mark.parametrize(
    ("tokens", "said"), [("0", "nobody's use of the model is limited"), ("500000", "500,000 tokens a person and day")]
)
async def test_it_says_how_much_one_person_may_ask(server: TestServer, tmp_path: Path, tokens: str, said: str) -> None:
    settings = configured(server, tmp_path, VLLM_TOKENS_PER_PERSON_AND_DAY=tokens)
    assert said in of("budget", await examine(settings)).text


async def test_without_a_model_it_says_who_answers(tmp_path: Path) -> None:
    settings = load_settings({"REDIS_URL": "unix:///not-used"}, data=tmp_path)
    assert "the offline engine answers" in (await examine_model(settings)).text


async def test_it_says_whether_the_router_is_fitted(tmp_path: Path) -> None:
    settings = load_settings({"REDIS_URL": "unix:///not-used"}, data=tmp_path)
    assert "not fitted yet" in of("router", await examine(settings)).text
    (tmp_path / "models" / "skills-0123456789abcdef").mkdir(parents=True)
    assert of("router", await examine(settings)).text.startswith("fitted")
