# Countersign in one image: `serve` by default, and every other command of ./countersign as its argument.
#
#   docker build --build-arg PIP_EXTRA_INDEX_URL=<an index with PyTorch's CPU wheels> -t countersign .
#   docker run --env-file deploy/compose.env -p 8000:8000 -v countersign:/data countersign
ARG PYTHON_IMAGE=docker.io/library/python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
# Where pip finds PyTorch's CPU build; without either, set-up stops and says so before it fetches a CUDA build.
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
WORKDIR /opt/countersign
# The packages first: this layer stays as long as the lock does.
COPY countersign requirements.lock ./
COPY bot/__init__.py bot/bootstrap.py bot/environment.py bot/progress.py bot/
RUN python3 countersign setup
# Then the code, and the embedding model that the code prepares.
COPY . .
RUN python3 countersign setup && chmod -R a+rX .

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin countersign \
    && install -d -m 0700 -o countersign -g countersign /data
COPY --from=build /opt/countersign /opt/countersign
# Nothing is written outside /data and /tmp, so the root file system can be read-only.
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    COUNTERSIGN_DATA=/data \
    COUNTERSIGN_HOST=0.0.0.0 \
    COUNTERSIGN_PORT=8000
USER countersign
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['COUNTERSIGN_PORT'] + '/livez', timeout=3)"]
ENTRYPOINT ["python3", "/opt/countersign/countersign"]
CMD ["serve"]
