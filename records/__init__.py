"""The ground floor: the database, its migrations, encryption at rest, the inbox and the outbox."""
