"""Router: one per group; admits daemons, relays between them, knows who is online."""
