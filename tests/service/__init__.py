"""Tests of the gRPC service and its client."""
