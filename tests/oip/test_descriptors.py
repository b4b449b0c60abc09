"""Our messages are the protocol's, field by field: those of tritonclient, and of the .proto."""

import subprocess
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from mad.service.oip import inference_pb2 as pb
from tests.oip.peer import ROOT, needs_peers, run

PROTOC = ROOT / ".venv/protos/bin/python"
ONLY_OURS = {"inference.ModelMetadataResponse.properties"}
"""An option of the protocol that Triton leaves out."""


def fields(file: descriptor_pb2.FileDescriptorProto) -> dict[str, tuple[int, int, int, str]]:
    """Return number, type, label and message of each field, by its full name."""
    found: dict[str, tuple[int, int, int, str]] = {}

    def walk(prefix: str, message: descriptor_pb2.DescriptorProto) -> None:
        name = f"{prefix}.{message.name}"
        for each in message.field:
            found[f"{name}.{each.name}"] = (each.number, each.type, each.label, each.type_name)
        for nested in message.nested_type:
            walk(name, nested)

    for message in file.message_type:
        walk(file.package, message)
    return found


def ours() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(file)
    return file


@needs_peers
def test_every_field_is_the_one_tritonclient_has() -> None:
    own = fields(ours())
    theirs = fields(descriptor_pb2.FileDescriptorProto.FromString(run("describe")))
    shared = own.keys() & theirs.keys()
    assert {name: own[name] for name in shared} == {name: theirs[name] for name in shared}
    assert {name for name in own if not name.count("Entry")} - shared == ONLY_OURS
    assert len(shared) == 75


@needs_peers
def test_every_method_takes_and_returns_what_tritonclient_has() -> None:
    file = descriptor_pb2.FileDescriptorProto.FromString(run("describe"))
    (own,), (theirs,) = ours().service, file.service
    known = {method.name: method for method in theirs.method}
    assert own.name == theirs.name
    assert len(own.method) == 8
    for method in own.method:
        same = known[method.name]
        assert (method.input_type, method.output_type) == (same.input_type, same.output_type)
        assert method.client_streaming == same.client_streaming
        assert method.server_streaming == same.server_streaming


@pytest.mark.skipif(not PROTOC.exists(), reason="the compiler is missing: make protos")
def test_the_shipped_descriptor_is_that_of_the_proto(tmp_path: Path) -> None:
    compiled = tmp_path / "compiled"
    arguments = ["-I", "protos/inference", f"--descriptor_set_out={compiled}"]
    command = [str(PROTOC), "-m", "grpc_tools.protoc", *arguments, "inference.proto"]
    subprocess.run(command, cwd=ROOT, check=True)
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes()).file
    assert file == ours()
