"""Hostile and damaged inputs, made from good ones by seeded mutations."""
