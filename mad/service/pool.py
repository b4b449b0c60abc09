"""Messages of protocols that are not ours, in descriptor pools of their own.

Their names are the protocols', and so are those of every other implementation, while the common
pool takes each name once a process. A descriptor set and the types beside it are made by ``make
protos`` of the .proto below ``protos``.
"""

from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def names_in(package: str, file: str) -> dict[str, Any]:
    """Return what generated code would have at its top: messages, enum values, ``DESCRIPTOR``.

    ``file`` is the descriptor set in the package, of one .proto.
    """
    pool = descriptor_pool.DescriptorPool()
    content = files(package).joinpath(file).read_bytes()
    (described,) = descriptor_pb2.FileDescriptorSet.FromString(content).file
    pool.Add(described)
    descriptor = pool.FindFileByName(described.name)
    names: dict[str, Any] = {
        name: message_factory.GetMessageClass(message)
        for name, message in descriptor.message_types_by_name.items()
    }
    for enum in descriptor.enum_types_by_name.values():
        names |= {value.name: value.number for value in enum.values}
    return names | {"DESCRIPTOR": descriptor}
