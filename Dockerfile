# What: the images of the service (target `app`) and of the load that shows it off (`demo`).
# Built by: docker compose, or `docker build --target app -t chatscope-app .`
# Trap: every package is a wheel with a hash; one without a wheel for this Python stops the
# build, since there is no compiler here to build it.

ARG BASE_IMAGE=python:3.13.16-slim-trixie@sha256:bf44cdfcb76cd3b41e879bc058fc37ec5872002ccfde7fcb765e218cde0cd79c
FROM ${BASE_IMAGE} AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONPATH=/packages
WORKDIR /chatscope

FROM base AS packages
COPY requirements.txt .
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
        --only-binary=:all: --require-hashes --target=/packages -r requirements.txt

FROM base AS demo-packages
COPY requirements-demo.txt .
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
        --only-binary=:all: --require-hashes --target=/packages -r requirements-demo.txt

FROM base AS demo
COPY --from=demo-packages /packages /packages
COPY demo demo
COPY chatscope chatscope
RUN chmod -R a+rX demo chatscope && python -m compileall -q demo chatscope
USER 10001:10001
CMD ["python", "-m", "demo"]

# Last, and so what a build without a target makes.
FROM base AS app
COPY --from=packages /packages /packages
COPY app app
COPY chatscope chatscope
# The checkout may be its owner's alone to read. And the file system is read-only at run time:
# without compiling here each start would compile anew.
RUN chmod -R a+rX app chatscope && python -m compileall -q app chatscope
# Nobody in particular, and not root.
USER 10001:10001
# In a container loopback is reached by nobody else.
ENV HOST=0.0.0.0 \
    PORT=3000
EXPOSE 3000
CMD ["python", "-m", "app"]
