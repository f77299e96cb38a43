# An image of the commands, for CPUs or with CUDA. Its lint is tested, but it was built nowhere yet.
#   docker build --tag painterjax .
#   docker build --tag painterjax-cuda --build-arg EXTRAS=pretrained,cuda .
# CUDA comes with JAX's wheels; the host needs NVIDIA's driver and container toolkit (--gpus all).
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ARG EXTRAS=pretrained
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY configs configs
COPY painterjax painterjax
RUN python -m venv /opt/painterjax \
    && /opt/painterjax/bin/pip install --no-cache-dir ".[${EXTRAS}]"

FROM python:${PYTHON}-slim
RUN useradd --create-home --uid 1000 painter
COPY --from=build /opt/painterjax /opt/painterjax
ENV PATH=/opt/painterjax/bin:$PATH
# Any user may run it, whether there is a home or not.
ENV JAX_COMPILATION_CACHE_DIR=/tmp/painterjax MPLCONFIGDIR=/tmp/matplotlib
USER 1000
WORKDIR /data
ENTRYPOINT ["painterjax"]
CMD ["--help"]
