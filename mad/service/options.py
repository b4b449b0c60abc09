"""What our gRPC servers tell gRPC of messages, streams and connections."""


def options(*, max_message_bytes: int) -> list[tuple[str, int]]:
    """Return the options of a server."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_concurrent_streams", 1024),
        ("grpc.max_metadata_size", 8192),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
        # Behind a balancer that balances connections, old ones keep new replicas idle.
        ("grpc.max_connection_age_ms", 30 * 60_000),
        ("grpc.max_connection_age_grace_ms", 60_000),
        # Two servers on one port would each get half of the calls, silently.
        ("grpc.so_reuseport", 0),
    ]
