# The image of web, worker and release: which of them it is says the command.
# Built and read-only: it writes to /tmp alone (docker run --read-only --tmpfs /tmp).
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.txt /build/
# Each file's hash is checked; nothing is installed that is not in the list.
RUN python3 -m venv /venv \
 && /venv/bin/pip install --quiet --require-hashes --only-binary :all: -r /build/requirements.txt \
 && /venv/bin/pip check \
 && /venv/bin/pip uninstall --quiet --yes setuptools pip

# The documentation at /help/; what builds it stays in this stage.
FROM ${PYTHON_IMAGE} AS documentation
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements-docs.txt /build/
RUN python3 -m venv /venv \
 && /venv/bin/pip install --quiet --require-hashes -r /build/requirements-docs.txt
COPY CHANGELOG.md /build/
COPY docs /build/docs
RUN /venv/bin/sphinx-build -q -W --keep-going -n -d /tmp/doctrees /build/docs /build/html

FROM packages AS program
WORKDIR /app
COPY manage.py ./
COPY saas_litellm ./saas_litellm
COPY teams ./teams
COPY billing ./billing
COPY jobs ./jobs
COPY payments ./payments
COPY webhooks ./webhooks
COPY templates ./templates
# Building the static files needs settings, not secrets; half of them are source maps, for nobody here.
# Byte code too: later nothing can be written.
RUN SAAS_READ_LOCAL_ENV=0 SECRET_KEY=build-only /venv/bin/python manage.py collectstatic --noinput --verbosity 0 \
 && find staticfiles -name '*.map*' -delete \
 && /venv/bin/python -m compileall -q /app

FROM ${PYTHON_IMAGE}
ENV PATH=/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SAAS_READ_LOCAL_ENV=0 \
    PORT=8003
RUN useradd --no-create-home --uid 10001 --shell /usr/sbin/nologin app
WORKDIR /app
COPY --from=packages /venv /venv
COPY --from=program /app /app
COPY --from=documentation /build/html /app/docs/_build/html
USER 10001
EXPOSE 8003
HEALTHCHECK --interval=15s --timeout=3s --start-period=30s \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/healthz', timeout=2)"]
# Calls in flight settle within SHUTDOWN_GRACE_SECONDS (20) of the signal; 10 more end answers nobody reads.
CMD ["sh", "-c", "exec uvicorn saas_litellm.asgi:application --host 0.0.0.0 --port \"$PORT\" --lifespan on --no-server-header --no-proxy-headers --ws-max-size 4096 --timeout-graceful-shutdown 30"]
