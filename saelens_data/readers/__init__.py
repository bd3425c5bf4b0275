"""Readers: models that turn a document into units (spans or tokens) and one vector for each unit."""
