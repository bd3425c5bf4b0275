"""Sparse autoencoders: one internal form, checkpoints, training and evaluation."""
