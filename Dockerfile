# One image for every process of smsfleet but Flower (`--target flower`); docker-compose.yml says which command is which.
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements/ requirements/
RUN python -m venv /opt/smsfleet && /opt/smsfleet/bin/pip install --no-cache-dir --require-hashes -r requirements/tracing.txt
COPY pyproject.toml README.md LICENSE ./
COPY app/ app/
COPY workers/ workers/
COPY phones/ phones/
RUN /opt/smsfleet/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM build AS build-flower
RUN /opt/smsfleet/bin/pip install --no-cache-dir --require-hashes -r requirements/flower.txt

FROM python:3.13-slim AS runtime
RUN useradd --system --uid 10001 --no-create-home smsfleet && install -d -m 700 -o smsfleet /data
ENV PATH=/opt/smsfleet/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=131072 SMSFLEET_DATA_DIR=/data SMSFLEET_HOST=0.0.0.0
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
CMD ["python", "-m", "uvicorn", "app.main:create_app", "--factory", "--host", "0.0.0.0", "--port", "8000", \
     "--workers", "1", "--http", "app.core.connections:Connection", "--no-proxy-headers", "--no-access-log", "--log-level", "warning", "--timeout-graceful-shutdown", "10"]

# Flower, which operators look through, needs more packages than the gateway: an image of its own.
FROM runtime AS flower
COPY --from=build-flower /opt/smsfleet /opt/smsfleet

FROM runtime
COPY --from=build /opt/smsfleet /opt/smsfleet
