# The gateway as an image, on the Python that the lock files are made for; a newer patch release is a new tag in both FROM lines.
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/tollgate
# What is locked for the gateway, and of the tests' lock only the versions that the extras ask for. Wheels only: nothing is compiled.
COPY requirements.lock requirements-dev.lock ./
RUN pip --python /opt/tollgate/bin/python install --no-cache-dir --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY pricing pricing
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && wheel="$(find /wheels -name '*.whl')" \
    && pip --python /opt/tollgate/bin/python install --no-cache-dir --only-binary :all: -c requirements-dev.lock "${wheel}[redis,fast,grpc]" \
    && /opt/tollgate/bin/python -m compileall -q /opt/tollgate/lib

FROM python:3.11.14-slim-bookworm
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/tollgate --shell /usr/sbin/nologin tollgate \
    && install -d -o tollgate -g tollgate -m 0750 /var/lib/tollgate /etc/tollgate
COPY --from=build /opt/tollgate /opt/tollgate
ENV PATH=/opt/tollgate/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# The base image brings no bytecode of the standard library: each start would compile what it needs of it, half a second.
RUN PYTHONDONTWRITEBYTECODE="" python -c "import gateway.cli.serve, gateway.workers, uvloop"
# By number, so that a cluster can see that it is not root.
USER 10001:10001
# Books and journal of the embedded store are made where it starts.
WORKDIR /var/lib/tollgate
VOLUME /var/lib/tollgate
# 8080 for apps, 8081 for operators. Off loopback the second wants admin.token, and the gateway does not start without.
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8081/health/live', timeout=2)"]
# SIGTERM lets calls finish for front.shutdown_grace.
STOPSIGNAL SIGTERM
ENTRYPOINT ["tollgate"]
CMD ["serve", "--config", "/etc/tollgate/tollgate.yaml"]
