"""One module a skill; `handlers/skills/registry.py` lists them."""
