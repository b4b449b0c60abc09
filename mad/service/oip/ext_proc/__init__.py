"""Envoy's external processing: requests scored on their way to a model server."""
