"""The demo as its on-call engineer sees it: Prometheus, Alertmanager, a webhook and pictures."""
