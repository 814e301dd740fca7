# What: the images of the service (target `app`) and of the load generator (target `demo`).
# Built by: docker compose, or `docker build --target app -t chatscope-app .`
# Trap: every package is a wheel with a hash; a package without a wheel for this Python fails the
# build, since the image has no compiler.

FROM python:3.13.16-slim-trixie AS base
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

# Last, and so the default target.
FROM base AS app
COPY --from=packages /packages /packages
COPY app app
COPY chatscope chatscope
# The checkout may be readable by its owner only. The file system is read-only at run time: without
# compiling here, each start would compile again.
RUN chmod -R a+rX app chatscope && python -m compileall -q app chatscope
# An unprivileged user.
USER 10001:10001
# In a container, loopback is not reachable from outside.
ENV HOST=0.0.0.0 \
    PORT=3000
EXPOSE 3000
CMD ["python", "-m", "app"]
