"""Write number, type and label of each field of Envoy's messages that ours stand for, as JSON."""

import json
import sys
from pathlib import Path
from typing import Any

# In a folder of its own: it brings files that MLServer needs in another version.
sys.path.insert(0, str(Path(sys.prefix) / "xds"))

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
