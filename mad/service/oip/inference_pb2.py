"""Messages of the Open Inference Protocol, in a descriptor pool of their own.

Their names are the protocol's, and so are those of tritonclient and of every other implementation,
while the common pool takes each name once a process. ``inference.binpb`` and the types beside this
file are made of ``protos/inference/inference.proto`` by ``make protos``.
"""

from importlib.resources import files

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_POOL = descriptor_pool.DescriptorPool()
_CONTENT = files(__package__).joinpath("inference.binpb").read_bytes()
for _file in descriptor_pb2.FileDescriptorSet.FromString(_CONTENT).file:
    _POOL.Add(_file)
DESCRIPTOR = _POOL.FindFileByName("inference.proto")
globals().update(
    (_name, message_factory.GetMessageClass(_message))
    for _name, _message in DESCRIPTOR.message_types_by_name.items()
)
