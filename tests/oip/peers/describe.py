"""Write tritonclient's own descriptor of the protocol to the output stream."""

import sys

from tritonclient.grpc import service_pb2

sys.stdout.buffer.write(service_pb2.DESCRIPTOR.serialized_pb)
