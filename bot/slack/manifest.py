"""The Slack app's manifest: paste it at api.slack.com/apps, "From a manifest", and the app is configured."""

from __future__ import annotations

from typing import Any

COMMAND = "/countersign"

BOT_SCOPES = (
    "app_mentions:read",  # mentions
    "channels:history",  # reading the thread we are asked in
    "channels:read",  # whether a channel is shared with another organisation
    "chat:write",  # posting, redrawing, ephemerals, a thread's status
    "chat:write.public",  # answering a command in a public channel without being invited first
    "commands",
    "groups:history",
    "groups:read",
    "im:history",  # direct messages
    "im:read",
    "im:write",  # writing to a person first
    "mpim:history",
    "mpim:read",
    "users:read",  # names; guests, bots and deactivated people are told apart
)


def slack_manifest(public_url: str) -> dict[str, Any]:
    """The manifest for an installation that Slack reaches at `public_url`."""
    request_url = f"{public_url.rstrip('/')}/slack/events"
    return {
        "display_information": {
            "name": "Countersign",
            "description": "A work assistant. Nothing risky happens until the right person has countersigned it.",
        },
        "features": {
            "app_home": {
                "home_tab_enabled": False,
                "messages_tab_enabled": True,
                "messages_tab_read_only_enabled": False,
            },
            "bot_user": {"display_name": "Countersign", "always_online": True},
            "slash_commands": [
                {
                    "command": COMMAND,
                    "url": request_url,
                    "description": "Ask for something, in your own words",
                    "usage_hint": "refund order 4711",
                    "should_escape": True,
                }
            ],
        },
        "oauth_config": {"scopes": {"bot": list(BOT_SCOPES)}},
        "settings": {
            "event_subscriptions": {"request_url": request_url, "bot_events": ["app_mention", "message.im"]},
            "interactivity": {"is_enabled": True, "request_url": request_url},
            "org_deploy_enabled": False,
            "socket_mode_enabled": False,
            "token_rotation_enabled": False,
        },
    }
