"""A server, a cluster, or this process's memory, through qdrant-client."""
