"""Microsoft Teams, behind botbuilder-core: intake, token checks, rendering and the connector service."""
