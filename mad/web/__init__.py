"""The HTTP edge: metrics, health and a page to watch, beside the gRPC port."""
