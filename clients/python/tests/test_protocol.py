"""That this package, the published protocol and the servers say the same; and that plain tools of gRPC
do with it what they should."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import grpc
from conftest import REPOSITORY, Cluster
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from roundtable import CODES
from roundtable.v1 import kv_pb2


def reflected(
    address: str, request: reflection_pb2.ServerReflectionRequest
) -> reflection_pb2.ServerReflectionResponse:
    with grpc.insecure_channel(address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        return next(iter(stub.ServerReflectionInfo(iter([request]))))


def plain(file: descriptor_pb2.FileDescriptorProto) -> descriptor_pb2.FileDescriptorProto:
    """What a file says, without how its compiler writes that down."""
    file.name = ""
    file.ClearField("source_code_info")

    def strip(message: descriptor_pb2.DescriptorProto) -> None:
        for field in message.field:
            field.ClearField("json_name")
        for nested in message.nested_type:
            strip(nested)

    for message in file.message_type:
        strip(message)
    return file


def test_the_checked_in_messages_are_those_of_the_servers(cluster: Cluster) -> None:
    ask = reflection_pb2.ServerReflectionRequest(file_containing_symbol="roundtable.v1.Kv")
    answer = reflected(cluster.endpoints[0], ask)
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(data)
        for data in answer.file_descriptor_response.file_descriptor_proto
    ]
    theirs = next(file for file in files if file.package == "roundtable.v1")
    ours = descriptor_pb2.FileDescriptorProto.FromString(kv_pb2.DESCRIPTOR.serialized_pb)
    assert plain(ours) == plain(theirs), "run clients/python/generate"


def test_reflection_lists_the_services(cluster: Cluster) -> None:
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    listed = reflected(cluster.endpoints[0], ask).list_services_response.service
    assert {"roundtable.v1.Kv", "roundtable.v1.Tables"} <= {service.name for service in listed}


PLAIN = """
import sys, grpc, kv_pb2 as pb, kv_pb2_grpc as rpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    kv = rpc.KvStub(channel)
    kv.Put(pb.PutRequest(key=b"plain", value=b"tools\\n"), timeout=5)
    assert kv.Get(pb.GetRequest(key=b"plain"), timeout=5).value == b"tools\\n"
    op = pb.SessionRequest.Op(id=7, get=pb.GetRequest(key=b"plain"))
    [answer] = next(iter(kv.Session(iter([pb.SessionRequest(ops=[op])]), timeout=5))).answers
    assert (answer.id, answer.get.value) == (7, b"tools\\n")
    names = [table.name for table in rpc.TablesStub(channel).List(pb.ListTablesRequest(), timeout=5).tables]
    assert "default" in names
    try:
        kv.Put(pb.PutRequest(key=b"", value=b""), timeout=5)
    except grpc.RpcError as failed:
        assert failed.code() is grpc.StatusCode.INVALID_ARGUMENT
        carried = dict(failed.trailing_metadata())["roundtable-error-bin"]
        detail = pb.ErrorDetail.FromString(carried)
        assert (detail.code, detail.applied) == ("KEY_EMPTY", pb.ErrorDetail.APPLIED_NO)
    else:
        sys.exit("an empty key was taken")
"""


def test_stubs_that_plain_tools_generate_work(cluster: Cluster, tmp_path: Path) -> None:
    outputs = [f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}"]
    generate = [sys.executable, "-m", "grpc_tools.protoc", f"-I{REPOSITORY / 'proto'}", *outputs, "kv.proto"]
    subprocess.run(generate, check=True, timeout=60)
    run = [sys.executable, "-c", PLAIN, cluster.endpoints[0]]
    subprocess.run(run, check=True, timeout=60, cwd=tmp_path)


def test_every_code_of_the_protocol_is_known() -> None:
    table = (REPOSITORY / "docs" / "errors.md").read_text()
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE))
    assert documented == set(CODES)
