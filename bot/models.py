"""Builds what asks models from the settings: embedder, tiers, budget and the engine over them. Part of the composition
root; `bot/app.py` hands it on."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

from bot.metrics import Metrics
from bot.model_settings import EndpointSettings, ModelSettings
from inference.budget import TokenBudget
from inference.chat_completions import Dialect
from inference.embeddings import Embedder, OnnxEmbedder, encoder_folder
from inference.gate import Gate
from inference.handover import Engine
from inference.model import AssistantModel
from inference.purpose import Lane, Purpose
from inference.tier import Tier
from inference.usage import Usage
from inference.vllm import VllmModel

LONGEST_QUEUE = timedelta(seconds=2)
"""Longest wait for a place at a server, where the limit to the first token is not shorter: the offline engine's answer
now is better than a person who looks at nothing."""


class WarmEmbedder(Embedder, Protocol):
    """An embedder as the web process keeps one."""

    async def warm(self) -> None:
        """Load what the first text would wait for."""
        ...

    async def close(self) -> None:
        """Release threads and connections."""
        ...


def build_embedder(settings: ModelSettings, data: Path, shipped: Path) -> WarmEmbedder:
    """What turns texts into vectors: the server that is configured, else this process with the tuned encoder of the
    data folder or the `shipped` one."""
    if settings.embeddings_url is not None and settings.embeddings_model is not None:
        from inference.remote_embeddings import RemoteEmbedder

        base_url = f"{settings.embeddings_url.removesuffix('/v1')}/v1"
        return RemoteEmbedder(base_url, settings.embeddings_model, settings.embeddings_api_key)
    return OnnxEmbedder(encoder_folder(data, shipped))


def build_engine(
    settings: ModelSettings, offline: AssistantModel, budget: TokenBudget, metrics: Metrics, *, salt_key: bytes
) -> Engine:
    """The engine of an installation. `salt_key`: 32 secret bytes that keep the tenants' prefix caches apart."""

    def tier(endpoint: EndpointSettings, lane: Lane, gate: Gate, *, shared_with_people: bool) -> Tier:
        model = VllmModel(
            endpoint.base_url,
            endpoint.model,
            endpoint.api_key,
            settings.limits,
            dialect=Dialect(endpoint.dialect),
            salt_key=salt_key,
            plans_by="schema" if endpoint.plans_by == "schema" else "tools",
            # One more than the gate lets in: the probe of a server that may be back waits for nobody.
            connections=settings.concurrency + 1,
            spent=partial(_spent, budget, metrics, lane),
        )
        return Tier(model, endpoint.endpoint, gate=gate, shared_with_people=shared_with_people)

    fast = rich = None
    if settings.fast is not None:
        fast = tier(settings.fast, Lane.FAST, _gate(settings, settings.concurrency), shared_with_people=True)
        if settings.rich is not None:
            # On a server of its own the rich model is nobody's rival; on the fast one's, people need its free places.
            same_server = settings.rich.base_url == settings.fast.base_url
            in_all = settings.background_concurrency if same_server else settings.concurrency
            rich = tier(settings.rich, Lane.RICH, _gate(settings, in_all), shared_with_people=False)
    engine = Engine(offline, fast, rich, budget=budget, observer=metrics)
    metrics.watch(engine.tiers)
    return engine


def _gate(settings: ModelSettings, in_all: int) -> Gate:
    return Gate(
        in_all=in_all,
        per_tenant=settings.tenant_concurrency,
        background=settings.background_concurrency,
        patience=min(settings.limits.first_token, LONGEST_QUEUE),
    )


def _spent(budget: TokenBudget, metrics: Metrics, lane: Lane, purpose: Purpose, usage: Usage) -> None:
    if not usage.prompt_tokens and not usage.completion_tokens:
        # The server did not take the request.
        return
    budget.spent(purpose, usage)
    metrics.tokens(lane, usage)
