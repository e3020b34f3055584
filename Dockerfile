FROM python:3.12-slim
RUN useradd --create-home --uid 10001 gateway && mkdir -p /data && chown gateway /data
WORKDIR /app
ARG REQUIREMENTS=requirements.lock
COPY requirements.lock requirements-otel.lock ./
RUN pip install --no-cache-dir --require-hashes -r $REQUIREMENTS
COPY manage.py ./
COPY gateway_site gateway_site
COPY apps apps
COPY templates templates
COPY static static
COPY agents agents
USER gateway
ENV GATEWAY_HOST=0.0.0.0 GATEWAY_DATA_DIR=/data GATEWAY_LOG_FORMAT=json PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ.get(\"GATEWAY_PORT\", 8000)}/ready', timeout=2)"]
CMD ["python", "manage.py", "serve", "--bootstrap"]
