"""Slack, behind slack-bolt: intake, listeners, rendering and the Web API."""
