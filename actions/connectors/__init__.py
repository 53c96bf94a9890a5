"""One module a downstream system; each implements the actions of that system."""
