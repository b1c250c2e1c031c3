"""Approximate nearest neighbours: models that look items up in the index of another library."""
