"""`vlpart serve`: the studio in a browser, and the HTTP API."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import signal
import socket
import threading
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlpart.cli.console import Bars, existing_folder, note, say
from vlpart.cli.options import EngineChoice, checked_engine, complete_models
from vlpart.errors import VlpartError
from vlpart.signals import heard

if TYPE_CHECKING:
    import uvicorn

    from vlpart.serve.settings import ServeSettings

_LIMITS = "Limits"
_ACCESS = "Access"


def register(app: typer.Typer) -> None:
    """Add the command to the `vlpart` command."""
    app.command("serve")(serve)


def serve(
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Model name, weight file, run folder or exported file; repeat it to choose among several on the page. "
            "Default: tiny.",
            autocompletion=complete_models,
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps. Default: cuda where there is one, else cpu.")
    ] = None,
    engine: Annotated[
        EngineChoice | None,
        typer.Option(
            help="What computes exported files (`vlpart export`). Default: onnxruntime for .onnx, openvino for .xml, "
            "torch for .torchscript."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0: all of this machine.", rich_help_panel=_ACCESS)
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.", rich_help_panel=_ACCESS)] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="VLPART_TOKEN", help="What clients must send to be answered.", rich_help_panel=_ACCESS),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Further name by which the server is called, as behind a proxy; repeat it. Checked on loopback only.",
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            callback=existing_folder,
            help="Folder with the images that tasks of Label Studio name (/label-studio).",
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser.", rich_help_panel=_ACCESS)
    ] = False,
    queue: Annotated[
        int, typer.Option(min=1, help="Images that may wait; more are refused (429).", rich_help_panel=_LIMITS)
    ] = 64,
    batch: Annotated[int, typer.Option(min=1, help="Images computed together, at most.", rich_help_panel=_LIMITS)] = 8,
    seconds: Annotated[
        float, typer.Option(min=1, help="Longest wait of an image (503).", rich_help_panel=_LIMITS)
    ] = 60,
    max_upload: Annotated[
        int, typer.Option(min=1, help="Megabytes of one request (413).", rich_help_panel=_LIMITS)
    ] = 64,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Pixels of one image (413).", rich_help_panel=_LIMITS)
    ] = 50_000_000,
    max_images: Annotated[int, typer.Option(min=1, help="Images of one batch (413).", rich_help_panel=_LIMITS)] = 16,
) -> None:
    """Look at photos and correct what was found, in the browser; and an HTTP API.

    It listens on this machine alone unless --host says otherwise, fetches nothing from anywhere, and keeps no photos.
    Ctrl-C ends it. The API is described at /openapi.json.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise VlpartError(f'{error.name} is not installed: pip install "vlpart[serve]"') from error
    from vlpart.serve.settings import MEGA, ServeSettings

    models = models or ["tiny"]
    chosen = None if engine is None else {checked_engine(model, engine) for model in models}.pop()
    local = _is_loopback(host)
    names = ("localhost", "127.0.0.1", "[::1]", _in_address(host), *(allow_host or ()))
    settings = ServeSettings(
        models=tuple(models),
        engine=chosen,
        device=device,
        token=token or None,
        hosts=names if local else None,
        images=images,
        max_body=max_upload * MEGA,
        max_held=max(512, 4 * max_upload) * MEGA,
        max_pixels=max_pixels,
        max_images=max_images,
        queue=max(queue, max_images),
        batch=batch,
        seconds=seconds,
    )
    if not local and not settings.token:
        note(f"anybody who can reach {host} may use this server: --token makes it ask for one")
    _run(settings, host, port, open_page)


def _run(settings: ServeSettings, host: str, port: int, open_page: bool) -> None:
    from vlpart.export.engines import is_exported
    from vlpart.zoo.resolve import resolve

    resolved = [resolve(model) for model in settings.models if not is_exported(model)]
    with contextlib.closing(_listening(host, port)) as connection:
        with Bars(in_bytes=True, transient=True) as progress:
            for model in resolved:
                model.fetch(progress)
        import uvicorn

        from vlpart.serve.app import create_app
        from vlpart.serve.protocol import guarded

        app = create_app(settings)
        app.state.models.get(app.state.models.names[0])  # what is wrong with it is told here
        for handler in logging.getLogger("vlpart").handlers:
            logging.getLogger("uvicorn.error").addHandler(handler)
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # broken requests are no news
        config = uvicorn.Config(
            app,
            http=guarded(settings.header_seconds),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=settings.connections,
            timeout_graceful_shutdown=5,
        )
        address = f"http://{_in_address(host)}:{connection.getsockname()[1]}/"
        if settings.token:
            address += f"#token={settings.token}"
        server = uvicorn.Server(config)
        threading.Thread(target=_announce, args=(server, address, open_page), daemon=True).start()
        if hasattr(signal, "SIGHUP") and heard(signal.SIGHUP):  # which uvicorn does not know
            signal.signal(signal.SIGHUP, lambda number, frame: signal.raise_signal(signal.SIGTERM))
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[connection])
        say("stopped", err=True)


def _announce(server: uvicorn.Server, address: str, open_page: bool) -> None:
    """Say where the page is, once it is there."""
    while not server.started:
        if server.should_exit:
            return
        time.sleep(0.05)
    with contextlib.suppress(OSError, ValueError):  # nobody reads it, or it is full: the end of the command tells
        say(f"the studio is at {address} (Ctrl-C ends it)")
    if open_page:
        webbrowser.open(address)


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens; before the model is loaded, so that a port that is taken is told at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        connection.bind((host.strip("[]"), port))
        connection.listen(256)
    except OSError as error:
        connection.close()
        hint = "another program has it: choose another --port, or 0 for any that is free"
        reason = (
            hint if error.errno in (98, 48, 10048) else f"{error.strerror or error}: choose another --host or --port"
        )
        raise VlpartError(f"cannot listen on {host}:{port}; {reason}") from None
    return connection


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _in_address(host: str) -> str:
    """A host as it stands in an address; of all addresses of this machine, this one."""
    plain = host.strip("[]")
    plain = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(plain, plain)
    return f"[{plain}]" if ":" in plain else plain
