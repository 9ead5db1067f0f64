"""The studio: a page to look at photos and correct what was found, and an HTTP API; needs the extra `serve`."""
