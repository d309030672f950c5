FROM python:3.11-slim AS build
WORKDIR /app
RUN python -m venv /venv
COPY requirements.txt .
RUN /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.txt
COPY . .
# Building the static files needs settings, not secrets.
RUN SAAS_READ_LOCAL_ENV=0 SECRET_KEY=build-only /venv/bin/python manage.py collectstatic --noinput
# The documentation at /help/; what builds it stays in this stage.
RUN python -m venv /docs-venv \
  && /docs-venv/bin/pip install --no-cache-dir --require-hashes -r requirements-docs.txt \
  && /docs-venv/bin/sphinx-build -q -W --keep-going -n -d /tmp/doctrees docs docs/_build/html

FROM python:3.11-slim
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 SAAS_READ_LOCAL_ENV=0 PORT=8003
RUN useradd --system --create-home app
WORKDIR /app
COPY --from=build /venv /venv
COPY --from=build --chown=app:app /app /app
USER app
EXPOSE 8003
HEALTHCHECK --interval=15s --timeout=3s --start-period=20s \
  CMD ["sh", "-c", "python -c \"import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\\\"PORT\\\"]}/healthz')\""]
CMD ["sh", "-c", "exec uvicorn saas_litellm.asgi:application --host 0.0.0.0 --port ${PORT} --lifespan on --no-server-header --ws-max-size 4096"]
