"""The body of an HTTP request as gRPC has it: one message in a frame of five bytes and itself."""

from typing import Final

from google.protobuf.message import DecodeError, Message

from mad.errors import UnreadableError

_HEAD: Final = 5


def read(body: bytes, message: Message) -> None:
    """Read the one message of a unary request.

    Raises UnreadableError for a body that is cut short, compressed, of several messages, or of
    another message.
    """
    if len(body) < _HEAD:
        raise UnreadableError(f"a body of {len(body)} bytes holds no gRPC message")
    if body[0]:
        raise UnreadableError(
            "the message is compressed; switch compression off between the caller and Envoy"
        )
    length = int.from_bytes(body[1:_HEAD], "big")
    if length != len(body) - _HEAD:
        raise UnreadableError(
            f"a gRPC message of {length} bytes does not fit a body of {len(body)}; one message a "
            "request is read, and Envoy must send bodies whole: request_body_mode BUFFERED"
        )
    try:
        message.ParseFromString(body[_HEAD:])
    except DecodeError as error:
        raise UnreadableError(f"{length} bytes are not the message of this method") from error
