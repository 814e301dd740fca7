"""API keys of clients, and their budgets."""
