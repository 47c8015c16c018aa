"""The inspection station's service: HTTP API and web page."""
