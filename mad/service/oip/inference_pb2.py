"""Messages of the Open Inference Protocol; see ``protos/inference/inference.proto``."""

from mad.service.pool import names_in

globals().update(names_in(__package__, "inference.binpb"))
