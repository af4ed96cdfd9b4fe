"""From pictures or stored vectors to named vectors in a collection."""
