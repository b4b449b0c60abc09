"""Reflection over every pool that served messages are in: names in, files for clients out."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar, final

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from mad.service.oip import inference_pb2
from mad.service.oip.ext_proc import ext_proc_pb2

Found = TypeVar("Found")


def reflect(services: Iterable[str], server: grpc.aio.Server) -> None:
    """Let clients ask for these services and for their messages, whichever pool they are in."""
    pools = [
        descriptor_pool.Default(),
        inference_pb2.DESCRIPTOR.pool,
        ext_proc_pb2.DESCRIPTOR.pool,
    ]
    names = (*services, reflection.SERVICE_NAME)
    servicer = reflection.aio.ReflectionServicer(names, pool=_Pools(pools))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)


@final
class _Pools:
    """What reflection asks of one pool, of several; the first that knows a name answers.

    KeyError if none does. The names are protobuf's.
    """

    def __init__(self, pools: Sequence[DescriptorPool]) -> None:
        self._pools = pools

    def FindFileByName(self, name: str) -> FileDescriptor:
        """Return a file."""
        return _first((pool.FindFileByName for pool in self._pools), name)

    def FindFileContainingSymbol(self, name: str) -> FileDescriptor:
        """Return the file that defines a name."""
        return _first((pool.FindFileContainingSymbol for pool in self._pools), name)

    def FindMessageTypeByName(self, name: str) -> Descriptor:
        """Return a message."""
        return _first((pool.FindMessageTypeByName for pool in self._pools), name)

    def FindExtensionByNumber(self, message: Descriptor, number: int) -> FieldDescriptor:
        """Return an extension of a message."""
        return message.file.pool.FindExtensionByNumber(message, number)

    def FindAllExtensions(self, message: Descriptor) -> list[FieldDescriptor]:
        """Return all extensions of a message."""
        return message.file.pool.FindAllExtensions(message)


def _first(finds: Iterable[Callable[[str], Found]], name: str) -> Found:
    for find in finds:
        with suppress(KeyError):
            return find(name)
    raise KeyError(name)
