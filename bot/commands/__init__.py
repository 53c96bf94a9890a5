"""Groups of the command line that are more than a line each; `bot.cli` registers them."""
