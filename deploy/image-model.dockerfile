# TensorFlow Serving with a trained model; the SavedModel carries its own warm-up request. From the root of the repository:
#
#     docker build -f deploy/image-model.dockerfile --build-arg MODEL=models/trashnet -t trash-model .
FROM docker.io/tensorflow/serving:2.19.1
ARG MODEL=models/trashnet
COPY ${MODEL}/export/saved_model/1 /models/trash/1
ENV MODEL_NAME=trash
USER 10001:10001
