"""Prometheus and Alertmanager as operators run them, by the files that we ship."""
