"""The manifest asks for what the code uses, and for nothing else."""

from __future__ import annotations

from bot.slack.manifest import slack_manifest


def test_every_door_points_at_the_one_endpoint() -> None:
    manifest = slack_manifest("https://bot.example.com/")
    url = "https://bot.example.com/slack/events"
    assert manifest["settings"]["event_subscriptions"]["request_url"] == url
    assert manifest["settings"]["interactivity"] == {"is_enabled": True, "request_url": url}
    assert [command["url"] for command in manifest["features"]["slash_commands"]] == [url]
    assert [command["command"] for command in manifest["features"]["slash_commands"]] == ["/countersign"]


def test_events_and_scopes_fit_each_other() -> None:
    manifest = slack_manifest("https://bot.example.com")
    scopes = manifest["oauth_config"]["scopes"]["bot"]
    assert manifest["settings"]["event_subscriptions"]["bot_events"] == ["app_mention", "message.im"]
    assert {"app_mentions:read", "im:history", "commands", "chat:write", "users:read"} <= set(scopes)
    assert len(scopes) == len(set(scopes))
    assert not [scope for scope in scopes if scope.startswith(("admin", "files", "search"))]
    # Without this switch nobody can write the app a direct message.
    assert manifest["features"]["app_home"]["messages_tab_enabled"]
