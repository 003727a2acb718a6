# The model stand-in, in place of TensorFlow Serving where that cannot be had; it runs an exported file at /model.
FROM docker.io/library/python:3.13-slim
WORKDIR /build
COPY deploy/build-requirements.txt deploy/stand-in-requirements.txt pyproject.toml README.md LICENSE ./
COPY image_classification_trash image_classification_trash
COPY configs configs
COPY scripts/model_stand_in.py /opt/stand-in/
RUN --mount=type=secret,id=pip-config,target=/etc/pip.conf \
    python3 -m venv --without-pip /opt/build && python3 -m venv --without-pip /opt/stand-in \
    && python3 -m pip --python /opt/build/bin/python --no-cache-dir install --require-hashes -r build-requirements.txt \
    && python3 -m pip --python /opt/stand-in/bin/python --no-cache-dir install --require-hashes -r stand-in-requirements.txt \
    && python3 -m pip --python /opt/build/bin/python --no-cache-dir wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheel . \
    && python3 -m pip --python /opt/stand-in/bin/python --no-cache-dir install --no-index --no-deps /wheel/*.whl
ENV PYTHONUNBUFFERED=1 HOME=/tmp
EXPOSE 8501
USER 10001:10001
ENTRYPOINT ["/opt/stand-in/bin/python", "/opt/stand-in/model_stand_in.py"]
CMD ["/model/export/model.tflite", "--host", "0.0.0.0"]
