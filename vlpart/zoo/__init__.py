"""Models by name: the catalogue, downloads, and safe reading of weight files."""
