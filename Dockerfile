# The production server. Build: docker build -t whatsapp-hub .
# Another Python or another registry: --build-arg BASE=python:3.13-slim
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/hub
WORKDIR /src
COPY requirements/server.txt requirements/
RUN /opt/hub/bin/pip install --require-hashes --requirement requirements/server.txt
COPY pyproject.toml README.md LICENSE ./
COPY whatsapp_hub whatsapp_hub
RUN /opt/hub/bin/pip install --no-deps . \
    && /opt/hub/bin/pip uninstall --yes pip

FROM ${BASE}
LABEL org.opencontainers.image.title="whatsapp-hub" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin hub
COPY --from=build /opt/hub /opt/hub
ENV PATH=/opt/hub/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/hub
USER 10001:10001
EXPOSE 8000
# Liveness only: a database that is away is no reason to restart. The slim image has no curl.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + (os.environ.get('PORT') or '8000') + '/health', timeout=4)"]
# Settings and secrets come from the environment or from mounted files (<NAME>_FILE); none is in the image.
ENTRYPOINT ["whatsapp-hub"]
CMD ["serve"]
