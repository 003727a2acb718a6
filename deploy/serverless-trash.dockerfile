# The classifier as an AWS Lambda function. From the root of the repository:
#
#     docker build -f deploy/serverless-trash.dockerfile --build-arg MODEL=image_classification_trash/shipped/model.tflite .
#
# MODEL lies in the repository's folder. PIP_INDEX_URL (and PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, PIP_TRUSTED_HOST) may
# name another package index. On a machine of another kind: --platform linux/arm64.
FROM public.ecr.aws/lambda/python:3.13 AS package
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_TRUSTED_HOST
WORKDIR /build
COPY deploy/serverless-requirements.txt deploy/make_lambda_package.sh deploy/
COPY image_classification_trash image_classification_trash
RUN sh deploy/make_lambda_package.sh /package

FROM public.ecr.aws/lambda/python:3.13
ARG MODEL=image_classification_trash/shipped/model.tflite
COPY --from=package /package ${LAMBDA_TASK_ROOT}
COPY ${MODEL} ${LAMBDA_TASK_ROOT}/model.tflite
ENV TRASH_LAMBDA_MODEL=${LAMBDA_TASK_ROOT}/model.tflite
CMD ["image_classification_trash.serving.lambda_function.handler"]
