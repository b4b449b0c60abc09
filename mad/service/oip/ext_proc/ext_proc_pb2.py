"""Messages of Envoy's external processing; see ``protos/envoy/ext_proc.proto``."""

from mad.service.pool import names_in

globals().update(names_in(__package__, "ext_proc.binpb"))
