"""The engine as an installation has it: asked through real settings, counted, limited, and shown on `/metrics`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bot.metrics import Metrics
from bot.model_settings import load_model_settings
from bot.models import build_embedder, build_engine
from inference import usage
from inference.budget import TokenBudget
from inference.embeddings import OnnxEmbedder
from inference.handover import INSTEAD, Engine
from inference.model import Facts
from inference.offline import OfflineEngine
from inference.purpose import Lane, Purpose
from inference.remote_embeddings import RemoteEmbedder
from inference.usage import Ledger, Usage
from records import migrate
from records.database import Database
from tests.doubles.model_server import Fault, ModelServer

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
ANA = Purpose(tenant="T1", account="ana", request_id="r1")
SALT_KEY = bytes(32)


class House:
    """An engine over local servers, and what it leaves behind."""

    def __init__(self, engine: Engine, metrics: Metrics, database: Database) -> None:
        self.engine, self.database, self._metrics = engine, database, metrics

    def shown(self, name: str, **labels: str) -> float:
        """What `/metrics` says of one sample; 0 where it says nothing."""
        page = self._metrics.page([]).decode()
        return next(
            (
                sample.value
                for family in text_string_to_metric_families(page)
                for sample in family.samples
                if sample.name == name and sample.labels == labels
            ),
            0.0,
        )

    async def used(self, account: str) -> usage.Total:
        return await self.database.read(lambda tx: usage.read(tx, Ledger("T1", account, date(2026, 3, 2))))


@asynccontextmanager
async def house(folder: Path, variables: Mapping[str, str]) -> AsyncIterator[House]:
    database = Database(f"sqlite:///{folder / 'house.db'}")
    await asyncio.to_thread(migrate.upgrade, database)
    settings, metrics = load_model_settings(variables), Metrics()
    budget = TokenBudget(database, tokens_a_day=settings.tokens_per_person_and_day, clock=lambda: NOW)
    embedder = OnnxEmbedder(folder / "none")
    engine = build_engine(settings, OfflineEngine(embedder), budget, metrics, salt_key=SALT_KEY)
    try:
        yield House(engine, metrics, database)
    finally:
        await engine.close()
        await embedder.close()
        await asyncio.to_thread(database.close)


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


def fast(server: ModelServer, **more: str) -> dict[str, str]:
    return {"VLLM_BASE_URL": server.url, "VLLM_MODEL": "tiny", **more}


async def test_what_a_server_counts_is_written_and_shown(server: ModelServer, tmp_path: Path) -> None:
    async with house(tmp_path, fast(server)) as here:
        engine = here.engine.on_behalf_of(ANA)
        for _ in range(2):
            assert await engine.reply("hello", Facts()).text() == "All is well here."
        await here.engine.close()
        used = await here.used("ana")
        assert used.calls == 2
        assert used.cached_tokens > 0
        for kind, tokens in (
            ("prompt", used.prompt_tokens),
            ("cached", used.cached_tokens),
            ("completion", used.completion_tokens),
        ):
            assert here.shown("countersign_model_tokens_total", lane="fast", kind=kind) == tokens
        ratio = here.shown("countersign_model_prefix_cache_hit_ratio", lane="fast")
        assert ratio == pytest.approx(used.cached_tokens / used.prompt_tokens)
        assert here.shown("countersign_model_first_token_seconds_count", lane="fast") == 2
        assert here.shown("countersign_model_seconds_count", call="reply", outcome="answered") == 2


async def test_a_reply_that_is_stopped_counts_for_what_was_read_of_it(server: ModelServer, tmp_path: Path) -> None:
    server.fault = Fault.STALL
    async with house(tmp_path, fast(server)) as here:
        async with here.engine.on_behalf_of(ANA).reply("hello", Facts()) as reply:
            async for _ in reply:
                break
        await here.engine.close()
        used = await here.used("ana")
        assert used.calls == 1
        assert used.prompt_tokens > 0
        assert here.shown("countersign_model_prefix_cache_hit_ratio", lane="fast") == 0


async def test_a_request_no_server_took_is_no_call_of_anybodys(server: ModelServer, tmp_path: Path) -> None:
    server.fault = Fault.REFUSING
    async with house(tmp_path, fast(server)) as here:
        await here.engine.on_behalf_of(ANA).draft("no", ())
        await here.engine.close()
        assert (await here.used("ana")).calls == 0


async def test_who_has_used_their_tokens_is_answered_by_the_offline_engine_and_told_why(
    server: ModelServer, tmp_path: Path
) -> None:
    async with house(tmp_path, fast(server, VLLM_TOKENS_PER_PERSON_AND_DAY="10")) as here:
        engine = here.engine.on_behalf_of(ANA)
        assert (await engine.draft("no", ())).engine == "tiny"
        answered = await engine.draft("no", ())
        assert answered.engine == "offline engine"
        assert answered.degraded is not None
        assert "at midnight UTC" in answered.degraded
        assert answered.degraded.endswith(INSTEAD)
        assert here.shown("countersign_model_excess_total", limit="tokens") == 1
        assert (await here.engine.draft("the house's own", ())).engine == "tiny"
        assert len(server.requests) == 2


async def test_a_circuit_that_opens_is_seen(server: ModelServer, tmp_path: Path) -> None:
    server.fault = Fault.REFUSING
    async with house(tmp_path, fast(server)) as here:
        assert here.shown("countersign_model_circuit", lane="fast", state="closed") == 1
        for _ in range(3):
            await here.engine.draft("no", ())
        assert here.shown("countersign_model_circuit", lane="fast", state="open") == 1
        assert here.shown("countersign_model_circuit", lane="fast", state="closed") == 0


async def test_work_under_way_is_seen(server: ModelServer, tmp_path: Path) -> None:
    server.fault = Fault.STALL
    async with house(tmp_path, fast(server, VLLM_CONCURRENCY="1")) as here:
        asking = [asyncio.create_task(here.engine.draft("no", ())) for _ in range(3)]
        await server.busy()
        assert here.shown("countersign_model_requests_under_way", lane="fast") == 1
        assert here.shown("countersign_model_requests_waiting", lane="fast") == 2
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        assert here.shown("countersign_model_requests_under_way", lane="fast") == 0


async def test_the_rich_lane_has_a_server_of_its_own_and_tells_it_so(server: ModelServer, tmp_path: Path) -> None:
    async with ModelServer() as rich:
        more = {"VLLM_RICH_BASE_URL": rich.url, "VLLM_RICH_MODEL": "large", "VLLM_RICH_DIALECT": "openai"}
        async with house(tmp_path, fast(server, **more)) as here:
            background = here.engine.on_behalf_of(Purpose(tenant="T1", account="ana", lane=Lane.RICH))
            assert (await background.draft("no", ())).engine == "large"
            assert "cache_salt" not in rich.requests[0].body
            await rich.go_away()
            assert (await background.draft("no", ())).engine == "tiny"
            assert server.requests[0].body["priority"] > 0
            assert server.requests[0].body["cache_salt"]
            await here.engine.close()
            assert here.shown("countersign_model_tokens_total", lane="rich", kind="completion") > 0
            assert here.shown("countersign_model_tokens_total", lane="fast", kind="completion") > 0


async def test_a_rich_model_on_the_fast_ones_server_keeps_to_the_background_share(
    server: ModelServer, tmp_path: Path
) -> None:
    more = {"VLLM_RICH_BASE_URL": server.url, "VLLM_RICH_MODEL": "large", "VLLM_BACKGROUND_CONCURRENCY": "2"}
    async with house(tmp_path, fast(server, **more)) as here:
        server.fault = Fault.STALL
        background = here.engine.on_behalf_of(Purpose(tenant="T1", lane=Lane.RICH))
        asking = [asyncio.create_task(background.draft("no", ())) for _ in range(5)]
        await server.busy()
        assert here.shown("countersign_model_requests_under_way", lane="rich") == 2
        assert here.shown("countersign_model_requests_waiting", lane="rich") == 3
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


def test_estimates_count_as_tokens_and_not_towards_the_hit_ratio() -> None:
    metrics = Metrics()
    metrics.tokens(Lane.FAST, Usage(100, 50, 10, estimated=False))
    metrics.tokens(Lane.FAST, Usage(900, None, 10, estimated=True))
    page = metrics.page([]).decode()
    assert 'countersign_model_tokens_total{kind="prompt",lane="fast"} 1000.0' in page
    assert 'countersign_model_prefix_cache_hit_ratio{lane="fast"} 0.5' in page


async def test_embeddings_come_from_the_server_that_is_configured_or_from_this_process(tmp_path: Path) -> None:
    remote = {"EMBEDDINGS_URL": "http://127.0.0.1:8090/v1", "EMBEDDINGS_MODEL": "encoder"}
    for variables, kind in (({}, OnnxEmbedder), (remote, RemoteEmbedder)):
        embedder = build_embedder(load_model_settings(variables), tmp_path, tmp_path / "shipped")
        assert isinstance(embedder, kind)
        await embedder.close()
