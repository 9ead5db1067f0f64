"""Network cameras on loopback: servers that send a film, and do not say how long it is."""

from __future__ import annotations

import io
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

DESCRIPTION = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=film\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
    "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track0\r\n"
)


def transport_stream(film: Path) -> bytes:
    """A film as MPEG-TS, which can be read from any place on."""
    path = film.with_suffix(".ts")
    with av.open(str(film)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path.read_bytes()


def rtp_packets(film: Path) -> list[bytes]:
    """A film as the RTP packets of H.264 that FFmpeg makes of it."""
    packets = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(0.2)
        address = f"rtp://127.0.0.1:{receiver.getsockname()[1]}"
        with av.open(str(film)) as source, av.open(address, "w", format="rtp") as target:
            stream = target.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 256, 192, "yuv420p"
            for frame in source.decode(video=0):
                target.mux(stream.encode(frame))
                packets += _arrived(receiver)
            target.mux(stream.encode())
            packets += _arrived(receiver)
    return packets


def _arrived(receiver: socket.socket) -> Iterator[bytes]:
    try:
        while True:
            yield receiver.recv(65536)
    except TimeoutError:
        return


@contextmanager
def http_camera(pieces: Sequence[bytes], pause: float = 0.0, *, endless: bool = False) -> Iterator[str]:
    """An address that gives the pieces, one after the other, until the connection ends."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nConnection: close\r\n\r\n")
            _send(self.request, pieces, pause, endless)

    with _serving(Handler) as port:
        yield f"http://127.0.0.1:{port}/live.ts"


@contextmanager
def jpeg_camera(frames: Sequence[NDArray[np.uint8]]) -> Iterator[str]:
    """A camera that answers with a JPEG after the other, as `multipart/x-mixed-replace`."""
    sent = []
    for pixels in frames:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "jpeg")
        head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(file.getvalue())}\r\n\r\n"
        sent.append(head.encode() + file.getvalue() + b"\r\n")

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            kind = b"multipart/x-mixed-replace;boundary=next"
            self.request.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: " + kind + b"\r\n\r\n")
            _send(self.request, sent, pause=0, endless=False)

    with _serving(Handler) as port:
        yield f"http://127.0.0.1:{port}/stream.mjpg"


@contextmanager
def rtsp_camera(
    packets: Sequence[bytes],
    pause: float = 0.0,
    *,
    once: bool = False,
    instead: Mapping[str, Callable[[str], Iterable[bytes]]] | None = None,
    description: str = DESCRIPTION,
) -> Iterator[str]:
    """A camera that sends its RTP packets through the connection over which it is asked (RFC 2326).

    Args:
        once: who asks again is not answered.
        instead: method -> what is sent in the place of its answer, given the request's number; afterwards nothing.
    """
    played = threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while not (once and played.is_set()) and (line := self.rfile.readline()):
                method = line.split()[0].decode()
                fields = dict(each.decode().strip().split(": ", 1) for each in iter(self.rfile.readline, b"\r\n"))
                if instead is not None and method in instead:
                    _send(self.request, instead[method](fields["CSeq"]), pause=0, endless=False)
                    self.rfile.read()  # until the client leaves
                    return
                answer, body = {"CSeq": fields["CSeq"], "Session": "1"}, ""
                if method == "OPTIONS":
                    answer["Public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"
                elif method == "DESCRIBE":
                    body = description
                    answer |= {"Content-Type": "application/sdp", "Content-Length": str(len(body))}
                elif method == "SETUP":
                    answer["Transport"] = fields["Transport"]
                said = "".join(f"{name}: {value}\r\n" for name, value in answer.items())
                self.wfile.write(f"RTSP/1.0 200 OK\r\n{said}\r\n{body}".encode())
                if method == "PLAY":
                    framed = [struct.pack("!cBH", b"$", 0, len(packet)) + packet for packet in packets]
                    played.set()
                    _send(self.request, framed, pause, endless=False)
                    return

    with _serving(Handler) as port:
        yield f"rtsp://user:secret@127.0.0.1:{port}/door"


def _send(connection: socket.socket, pieces: Iterable[bytes], pause: float, endless: bool) -> None:
    try:
        while True:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            if not endless:
                return
    except OSError:  # the client has left
        return


@contextmanager
def _serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()
