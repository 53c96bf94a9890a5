"""What changes the world: the action catalogue, plans, connectors and their execution."""
