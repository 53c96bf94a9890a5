"""Where models are served, what may go there, and how much is asked, as the variables say it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bot.model_settings import ModelSettings, is_inside, load_model_settings

FAST = {"VLLM_BASE_URL": "http://llm.internal:8000/v1/", "VLLM_MODEL": "qwen3", "VLLM_API_KEY": "fast-key"}
RICH = {"VLLM_RICH_BASE_URL": "http://rich.internal:8000/v1", "VLLM_RICH_MODEL": "qwen3-large"}


def test_with_nothing_set_there_is_the_offline_engine_and_limits_for_later() -> None:
    settings = load_model_settings({})
    assert (settings.fast, settings.rich, settings.embeddings_url) == (None, None, None)
    assert (settings.concurrency, settings.tenant_concurrency, settings.background_concurrency) == (64, 48, 8)
    assert settings.tokens_per_person_and_day == 500_000
    assert settings.limits.first_token == timedelta(seconds=5)


def test_a_server_inside_is_asked_as_vllm_with_tool_calls() -> None:
    fast = load_model_settings(FAST).fast
    assert fast is not None
    assert (fast.base_url, fast.model, fast.api_key) == ("http://llm.internal:8000/v1", "qwen3", "fast-key")
    assert (fast.dialect, fast.inside, fast.receives, fast.plans_by) == ("vllm", True, "nothing", "tools")
    assert fast.endpoint.name == "llm.internal/qwen3"
    assert fast.endpoint.inside


def test_a_server_outside_receives_nothing_until_that_is_said() -> None:
    outside = {"VLLM_BASE_URL": "https://api.example.com/v1", "VLLM_MODEL": "large", "VLLM_DIALECT": "openai"}
    fast = load_model_settings(outside).fast
    assert fast is not None
    assert (fast.inside, fast.receives, fast.dialect) == (False, "nothing", "openai")
    fast = load_model_settings({**outside, "VLLM_RECEIVES": "own-words"}).fast
    assert fast is not None
    assert fast.endpoint.receives == "own-words"


def test_the_operator_has_the_last_word_on_where_a_server_is() -> None:
    hidden = load_model_settings({**FAST, "VLLM_LOCATION": "outside", "VLLM_RECEIVES": "everything"}).fast
    near = load_model_settings({**FAST, "VLLM_BASE_URL": "https://llm.example.com", "VLLM_LOCATION": "inside"}).fast
    assert hidden is not None
    assert near is not None
    assert (hidden.inside, hidden.receives, near.inside) == (False, "everything", True)


def test_the_rich_models_settings_are_its_own() -> None:
    rich = load_model_settings({**FAST, **RICH, "VLLM_DIALECT": "openai", "VLLM_RICH_PLANS_BY": "schema"}).rich
    assert rich is not None
    assert (rich.model, rich.dialect, rich.plans_by) == ("qwen3-large", "vllm", "schema")


def test_a_key_goes_to_another_model_of_the_same_server_and_to_no_other_server() -> None:
    def key_of_rich(**more: str) -> str | None:
        settings = load_model_settings({**FAST, **RICH, **more})
        assert settings.rich is not None
        return settings.rich.api_key

    assert key_of_rich() is None
    assert key_of_rich(VLLM_RICH_BASE_URL="http://llm.internal:8000/v1") == "fast-key"
    assert key_of_rich(VLLM_RICH_API_KEY="rich-key") == "rich-key"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "10.1.2.3", "192.168.0.9", "::1", "fd00::7", "vllm", "gpu-1.lan", "x.svc.cluster.local",
     "vllm.ai.svc", "llm.internal", "::ffff:10.0.0.1"],
)  # fmt: skip
def test_the_own_network_is_inside(host: str) -> None:
    assert is_inside(host)


@pytest.mark.parametrize(
    "host",
    ["api.openai.com", "8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "134744072", "0x08080808", "internal.com",
     "llm.internal.example.com", "8.8.2056", ""],
)  # fmt: skip
def test_what_is_not_surely_the_own_network_is_outside(host: str) -> None:
    assert not is_inside(host)


def limits(settings: ModelSettings) -> tuple[int, int, int]:
    return settings.concurrency, settings.tenant_concurrency, settings.background_concurrency


def test_the_shares_shrink_with_the_whole() -> None:
    assert limits(load_model_settings({"VLLM_CONCURRENCY": "4"})) == (4, 4, 4)
    assert limits(load_model_settings({"VLLM_CONCURRENCY": "20", "VLLM_TENANT_CONCURRENCY": "10"})) == (20, 10, 8)


def test_no_token_limit_can_be_asked_for() -> None:
    assert load_model_settings({"VLLM_TOKENS_PER_PERSON_AND_DAY": "0"}).tokens_per_person_and_day == 0
