"""The settings of language models and embeddings: where they are served, what may go there, and how much is asked.

Nothing set means the offline engine alone, which is a complete installation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from bot.variables import SettingsError, checked_url, one_of, seconds, whole_number
from inference.limits import ModelLimits
from inference.purpose import Endpoint

INSIDE_SUFFIXES = (".internal", ".local", ".lan", ".svc", ".cluster.local")
"""Ends of host names that are resolved on the own network only: `.local` by RFC 6762, the others by custom."""
EXAMPLE_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """One served model."""

    base_url: str
    """With or without its `/v1`; no slash at the end."""
    model: str
    """The served model's name."""
    api_key: str | None
    dialect: str
    """`vllm`: takes vLLM's own parameters (priority, cache salt, …); `openai`: only what is in OpenAI's protocol."""
    inside: bool
    """It runs on the organisation's own machines."""
    receives: str
    """`nothing`, `own-words` or `everything`: what may go to a server outside; has no meaning for one inside."""
    plans_by: str
    """How plans are asked for: `tools` (tool calls) or `schema` (JSON of a schema)."""

    @property
    def endpoint(self) -> Endpoint:
        """As the residency rule judges it."""
        return Endpoint(f"{urlsplit(self.base_url).hostname}/{self.model}", self.inside, self.receives)


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The models asked; `fast` None means the offline engine alone."""

    fast: EndpointSettings | None
    """Asked where somebody waits."""
    rich: EndpointSettings | None
    """Asked for work in the background; None: the fast one does it too. Never without `fast`."""
    limits: ModelLimits
    """How long an answer may take, of either model."""
    concurrency: int
    """Requests under way to one model at once, from this process."""
    tenant_concurrency: int
    """The most of them for one tenant."""
    background_concurrency: int
    """The most of them for work in the background, where people ask the same server."""
    tokens_per_person_and_day: int
    """Prompt and answer together, by UTC day; 0: no limit."""
    embeddings_url: str | None
    """Server of `/v1/embeddings`; None: embeddings are computed in this process."""
    embeddings_model: str | None
    """Its served model; set exactly where `embeddings_url` is."""
    embeddings_api_key: str | None = None
    """What it asks for as a bearer token, if anything."""


def load_model_settings(environment: Mapping[str, str]) -> ModelSettings:
    """Read and check the variables; raises SettingsError."""
    fast = _endpoint(environment, "VLLM_")
    rich = _endpoint(environment, "VLLM_RICH_", beside=fast)
    if rich is not None and fast is None:
        raise SettingsError(
            "VLLM_BASE_URL is not set but VLLM_RICH_BASE_URL is; the rich model stands beside a fast one, so set both"
        )
    embeddings_url, embeddings_model = _server_and_model(environment, "EMBEDDINGS_URL", "EMBEDDINGS_MODEL", "embedding")
    if embeddings_url is not None:
        _refuse_outside_embeddings(environment, urlsplit(embeddings_url).hostname or "")
    concurrency = whole_number(environment, "VLLM_CONCURRENCY", 64)
    return ModelSettings(
        fast=fast,
        rich=rich,
        limits=ModelLimits(
            first_token=seconds(environment, "VLLM_FIRST_TOKEN_SECONDS", 5),
            between_tokens=seconds(environment, "VLLM_BETWEEN_TOKENS_SECONDS", 10),
            total=seconds(environment, "VLLM_TOTAL_SECONDS", 60),
        ),
        concurrency=concurrency,
        tenant_concurrency=_share(environment, "VLLM_TENANT_CONCURRENCY", 48, concurrency),
        background_concurrency=_share(environment, "VLLM_BACKGROUND_CONCURRENCY", 8, concurrency),
        tokens_per_person_and_day=whole_number(environment, "VLLM_TOKENS_PER_PERSON_AND_DAY", 500_000, least=0),
        embeddings_url=embeddings_url,
        embeddings_model=embeddings_model,
        embeddings_api_key=environment.get("EMBEDDINGS_API_KEY") or None,
    )


def _endpoint(
    environment: Mapping[str, str], prefix: str, *, beside: EndpointSettings | None = None
) -> EndpointSettings | None:
    """`beside`: whose key serves for both where both are one server. A key goes to no other server than its own."""
    base_url, model = _server_and_model(environment, f"{prefix}BASE_URL", f"{prefix}MODEL", "language")
    if base_url is None or model is None:
        return None
    api_key = environment.get(f"{prefix}API_KEY") or None
    if api_key is None and beside is not None and beside.base_url == base_url:
        api_key = beside.api_key
    host = urlsplit(base_url).hostname or ""
    derived = "inside" if is_inside(host) else "outside"
    inside = one_of(environment, f"{prefix}LOCATION", ("inside", "outside"), derived) == "inside"
    if inside and environment.get(f"{prefix}RECEIVES"):
        raise SettingsError(
            f"{prefix}RECEIVES is set, but {host} counts as inside and receives everything; unset it, or set "
            f"{prefix}LOCATION=outside"
        )
    return EndpointSettings(
        base_url=base_url,
        model=model,
        api_key=api_key,
        dialect=one_of(environment, f"{prefix}DIALECT", ("vllm", "openai"), "vllm"),
        inside=inside,
        receives=one_of(environment, f"{prefix}RECEIVES", ("nothing", "own-words", "everything"), "nothing"),
        plans_by=one_of(environment, f"{prefix}PLANS_BY", ("tools", "schema"), "tools"),
    )


def _refuse_outside_embeddings(environment: Mapping[str, str], host: str) -> None:
    """Every message is embedded, whoever wrote it and wherever, before anything is known about it: no rule could let
    some of them go outside."""
    derived = "inside" if is_inside(host) else "outside"
    if one_of(environment, "EMBEDDINGS_LOCATION", ("inside", "outside"), derived) == "outside":
        raise SettingsError(
            f"EMBEDDINGS_URL is outside ({host}), and every message would go there; use a server of your own, and set "
            "EMBEDDINGS_LOCATION=inside when its name does not show that it is one"
        )


def _server_and_model(
    environment: Mapping[str, str], url_variable: str, model_variable: str, kind: str
) -> tuple[str | None, str | None]:
    url, model = environment.get(url_variable) or None, environment.get(model_variable) or None
    if (url is None) != (model is None):
        missing, present = (model_variable, url_variable) if model is None else (url_variable, model_variable)
        raise SettingsError(
            f"{missing} is not set but {present} is; {'an' if kind[0] in 'aeiou' else 'a'} {kind} model needs both, "
            "or neither"
        )
    if url is not None:
        url = checked_url(url_variable, url, ("http", "https"), EXAMPLE_URL).rstrip("/")
    return url, model


def _share(environment: Mapping[str, str], variable: str, default: int, concurrency: int) -> int:
    """A part of the concurrency; the default shrinks with it, and what was set is checked against it."""
    share = whole_number(environment, variable, min(default, concurrency))
    if share > concurrency:
        raise SettingsError(
            f"{variable} is {str(share)!r}, more than VLLM_CONCURRENCY ({concurrency}); set it to at most that"
        )
    return share


def is_inside(host: str) -> bool:
    """Whether a host is on the organisation's own network, judged by its name alone; in doubt it is not.

    Loopback and private addresses, names of a single label (resolved on the own network), and `INSIDE_SUFFIXES`.
    """
    try:
        address = ip_address(host)
    except ValueError:
        # A label that starts with a digit may be an address in another notation: http://134744072 is 8.8.8.8.
        single_label = "." not in host and host[:1].isalpha()
        return single_label or host.endswith(INSIDE_SUFFIXES)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_private
    return address.is_private
