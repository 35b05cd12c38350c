# docker build .                       the service and the CLI, without any framework
# docker build --target verify .       with TensorFlow, for `convcalc verify`
# The base by digest: --build-arg PYTHON=python:3.13-slim-trixie@sha256:...; docs/container.md says how to find it.
ARG PYTHON=python:3.13-slim-trixie

# hadolint ignore=DL3006
FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# The environment has no pip: the base's installs into it, and stays here.
RUN python -m venv --without-pip /opt/convcalc
COPY scripts/sbom.py scripts/

FROM build AS wheel
RUN python -m venv /opt/build
COPY requirements/build.txt requirements/
RUN pip --python /opt/build/bin/python install --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY convcalc convcalc
COPY web web
RUN pip --python /opt/build/bin/python wheel --no-deps --no-build-isolation --wheel-dir /dist .

# Packages first: they change seldom. The root is read-only when it runs, so the byte code is made here; it does not
# look at its source's time.
FROM build AS build-verify
COPY requirements/verify.txt requirements/
RUN pip --python /opt/convcalc/bin/python install --require-hashes --no-compile -r requirements/verify.txt
COPY --from=wheel /dist /dist
RUN pip --python /opt/convcalc/bin/python install --no-deps --no-compile /dist/*.whl \
 && /opt/convcalc/bin/python scripts/sbom.py > /opt/convcalc/sbom.cdx.json \
 && /opt/convcalc/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/convcalc/lib

FROM build AS build-slim
COPY requirements/serve.txt requirements/
RUN pip --python /opt/convcalc/bin/python install --require-hashes --no-compile -r requirements/serve.txt \
 && find /opt/convcalc/lib -type d -name tests -prune -exec rm -r {} +
COPY --from=wheel /dist /dist
RUN pip --python /opt/convcalc/bin/python install --no-deps --no-compile /dist/*.whl \
 && /opt/convcalc/bin/python scripts/sbom.py > /opt/convcalc/sbom.cdx.json \
 && /opt/convcalc/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/convcalc/lib

# hadolint ignore=DL3006
FROM ${PYTHON} AS run
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="convcalc" \
      org.opencontainers.image.description="What a convolutional network costs, before it is run" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Docker waits ten seconds after SIGTERM; without a load balancer one of them is enough.
ENV PATH=/opt/convcalc/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 CONVCALC_DRAIN=1
WORKDIR /data
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ.get('CONVCALC_PORT', 8000)}/livez\", timeout=4)"]
ENTRYPOINT ["convcalc"]
CMD ["serve", "--host", "0.0.0.0"]

FROM run AS verify
COPY --from=build-verify /opt/convcalc /opt/convcalc

FROM run AS slim
COPY --from=build-slim /opt/convcalc /opt/convcalc
