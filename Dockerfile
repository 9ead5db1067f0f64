# The command line in a container, on a CPU: the versions of uv.lock, and of torch their CPU builds, since those with CUDA
# are several GB.
#   docker build -t vlpart .
#   docker run --rm -v "$PWD:/work" vlpart predict photo.jpg
# BASE is any image with Python 3.11 or newer and pip, on Debian; TORCH_INDEX any index with these builds. Its authors have
# built the first stage (with buildah, on a Debian of their own), and not yet the second: say so if it fails.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /source
COPY pyproject.toml uv.lock README.md LICENSE ./
COPY vlpart vlpart
RUN uv export --quiet --frozen --no-dev --no-emit-project --extra export --extra video \
        --prune torch --prune torchvision --output-file /requirements.txt \
    && uv export --quiet --frozen --no-dev --no-emit-project --no-hashes --no-annotate --output-file /all.txt \
    && sed -n '/^torch\(vision\)\{0,1\}==/p' /all.txt > /torch.txt \
    && uv build --wheel --out-dir /wheels

FROM ${BASE}
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# What OpenCV, which the tracker brings, loads: of the version that the base image has.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
# torch first: nothing that follows then asks for another build of it.
RUN --mount=type=bind,from=build,source=/torch.txt,target=/torch.txt \
    --mount=type=bind,from=build,source=/requirements.txt,target=/requirements.txt \
    --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir -r /torch.txt --index-url "$TORCH_INDEX" \
    && pip install --no-cache-dir -r /requirements.txt \
    && pip install --no-cache-dir --no-deps /wheels/*.whl
RUN useradd --create-home --uid 1000 vlpart
USER 1000
WORKDIR /work
ENTRYPOINT ["vlpart"]
CMD ["--help"]
