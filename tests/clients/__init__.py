"""Official clients, unchanged, against the running service; responses of real providers."""
