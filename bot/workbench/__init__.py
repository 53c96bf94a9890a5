"""The workbench: a local Slack, a local Teams and the page on which two people use them."""
