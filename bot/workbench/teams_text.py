"""Message text of format `xml` as the Markdown that the page draws; its character references stay, and stay inert."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_LINK = re.compile(r'<a href="([^"<>()\s]*)">(.*?)</a>', re.DOTALL)
_QUOTE = re.compile(r"<(blockquote|pre)>(.*?)</\1>", re.DOTALL)
_TAGS = {
    "<p>": "",
    "</p>": "\n\n",
    "<b>": "**",
    "</b>": "**",
    "<i>": "*",
    "</i>": "*",
    "<br/>": "  \n",
}
_TAG = re.compile("|".join(map(re.escape, _TAGS)))


def shown_text(activity: Mapping[str, Any]) -> str:
    """What the page shows as an activity's text."""
    text = str(activity.get("text") or "")
    if activity.get("textFormat") != "xml":
        return text
    text = _LINK.sub(lambda match: f"[{match[2]}]({match[1]})", text)
    text = _QUOTE.sub(lambda match: "> " + match[2].replace("<br/>", "  \n> ") + "\n\n", text)
    return _TAG.sub(lambda match: _TAGS[match[0]], text).strip()
