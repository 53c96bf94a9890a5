"""The surfaces, the web server, the command line, and the composition root."""
