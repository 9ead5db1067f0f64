# The command line in a container, on a CPU: the versions of uv.lock, and the CPU builds of torch in the place of those
# with CUDA, which are several GB.
# Written by the book and not built by its authors yet: say so if it fails.
#   docker build -t vlpart .
#   docker run --rm -v "$PWD:/work" vlpart predict photo.jpg
FROM python:3.12-slim AS build
RUN pip install --no-cache-dir uv
WORKDIR /source
COPY pyproject.toml uv.lock README.md LICENSE ./
COPY vlpart vlpart
RUN uv export --frozen --no-dev --no-emit-project --extra export --extra video \
        --prune torch --prune torchvision --output-file /requirements.txt \
    && uv build --wheel --out-dir /wheels

FROM python:3.12-slim
# What OpenCV, which the tracker brings, loads.
RUN apt-get update && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
# torch first: nothing that follows then asks for another build of it.
RUN --mount=type=bind,from=build,source=/requirements.txt,target=/requirements.txt \
    --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir -r /requirements.txt \
    && pip install --no-cache-dir --no-deps /wheels/*.whl
RUN useradd --create-home vlpart
USER vlpart
WORKDIR /work
ENTRYPOINT ["vlpart"]
CMD ["--help"]
