# The gateway, without root, on a read-only file system. From the root of the repository, with the model mounted at /model:
#
#     docker build -f deploy/image-gateway.dockerfile --target gateway -t trash-gateway .
#     docker run --read-only --tmpfs /tmp --cap-drop ALL -v ./models/trashnet:/model:ro -p 8080:8080 trash-gateway
#
# Without a model at /model, the one that comes with the package answers. Or with the model inside:
#
#     docker build -f deploy/image-gateway.dockerfile --build-arg MODEL=models/trashnet -t trash-gateway .
#
# Another package index: --secret id=pip-config,src=FILE with pip's configuration; it leaves no trace in the image.
FROM docker.io/library/python:3.13-slim AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE deploy/build-requirements.txt deploy/gateway-requirements.txt ./
COPY image_classification_trash image_classification_trash
COPY configs configs
# Whatever comes from the package index must have the hash that the locks state, what builds the wheel too.
RUN --mount=type=secret,id=pip-config,target=/etc/pip.conf \
    python3 -m venv --without-pip /opt/build && python3 -m venv --without-pip /opt/trash \
    && python3 -m pip --python /opt/build/bin/python --no-cache-dir install --require-hashes -r build-requirements.txt \
    && python3 -m pip --python /opt/trash/bin/python --no-cache-dir install --require-hashes -r gateway-requirements.txt \
    && python3 -m pip --python /opt/build/bin/python --no-cache-dir wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheel . \
    && python3 -m pip --python /opt/trash/bin/python --no-cache-dir install --no-index --no-deps /wheel/*.whl

FROM docker.io/library/python:3.13-slim AS gateway
COPY --from=build /opt/trash /opt/trash
# Models are looked for in /*/: one that is mounted or copied at /model is found without being named.
ENV TRASH_SERVE_HOST=0.0.0.0 TRASH_SERVE_MODELS_DIR=/ PYTHONUNBUFFERED=1 HOME=/tmp
EXPOSE 8080
USER 10001:10001
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/opt/trash/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
ENTRYPOINT ["/opt/trash/bin/trash-classifier", "serve"]

FROM gateway
ARG MODEL=models/trashnet
COPY ${MODEL} /model
