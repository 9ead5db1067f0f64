"""Vocabularies, prompts and text encoders."""
