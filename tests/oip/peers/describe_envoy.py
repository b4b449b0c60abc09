"""Write number, type and label of each field of Envoy's messages that ours stand for, as JSON."""

import json
import sys
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2
from envoy.type.v3 import http_status_pb2

found: dict[str, tuple[int, int, bool]] = {}
for file in (external_processor_pb2, base_pb2, http_status_pb2):
    messages: Any = file.DESCRIPTOR.message_types_by_name
    for name, message in messages.items():
        for field in message.fields:
            found[f"{name}.{field.name}"] = (field.number, field.type, field.is_repeated)
json.dump(found, sys.stdout)
