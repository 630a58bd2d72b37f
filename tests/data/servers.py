"""A real HTTP server on loopback that knows ranges and can be told to fail."""

import re
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FileServer:
    """Serves a folder. `faults[name]` is a list of faults, one for each of the next GETs of that file.

    A fault is a status (503), "cut" (the connection breaks in the middle), "slow" (ten pieces with pauses),
    "short" (the last byte is missing, and nothing says so), "stall"
    (nothing comes for `stall_s`), or "corrupt" (the byte at `corrupt_at[name]`, or else in the middle, is another
    one, if the range holds it). `always[name]` is a fault of every request.
    """

    def __init__(self, root, has_ranges=True, stall_s=3.0):
        self.root, self.has_ranges, self.stall_s = Path(root), has_ranges, stall_s
        self.faults, self.always = defaultdict(list), {}
        self.corrupt_at, self.is_stopped, self.tag = {}, False, None
        self.requests = []  # (method, name, range)
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"files": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def fault(self, name):
        with self.lock:
            return self.faults[name].pop(0) if self.faults[name] else self.always.get(name)

    def gets(self, name):
        """How often the file was asked for."""
        return sum(method == "GET" and found == name for method, found, _ in self.requests)

    @contextmanager
    def running(self):
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield self
        finally:
            self.is_stopped = True
            self.server.shutdown()
            self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: FileServer

    def log_message(self, *args):
        """Nothing on the screen."""

    def parse_request(self):
        """Connections that are kept open end when the server does."""
        self.close_connection = True
        return not self.files.is_stopped and super().parse_request()

    def do_HEAD(self):
        path = self.files.root / self.path.lstrip("/").partition("?")[0]
        self.files.requests.append(("HEAD", self.path.lstrip("/"), None))
        if not path.is_file():
            self.send_error(404)
            return
        self.send_response(200)
        self.headers_of(path, path.stat().st_size)

    def headers_of(self, path, length):
        stat = path.stat()
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", self.files.tag or f'"{stat.st_mtime_ns}-{stat.st_size}"')
        if not self.files.has_ranges:
            self.send_header("Accept-Ranges", "none")
        self.end_headers()

    def do_GET(self):
        name = self.path.lstrip("/").partition("?")[0]
        path = self.files.root / name
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        self.files.requests.append(("GET", name, asked and asked.groups()))
        fault = self.files.fault(name)
        if not path.is_file() or isinstance(fault, int):
            self.send_error(fault if isinstance(fault, int) else 404)
            return
        raw = bytearray(path.read_bytes())
        if fault == "corrupt":
            raw[self.files.corrupt_at.get(name, len(raw) // 2)] ^= 0xFF
        start, stop = 0, len(raw)
        if asked and self.files.has_ranges:
            start, stop = int(asked[1]), min(int(asked[2]) + 1, len(raw))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(raw)}")
        else:
            self.send_response(200)
        stop -= fault == "short"
        self.headers_of(path, stop - start)
        self.send(bytes(raw[start:stop]), fault)

    def send(self, raw, fault):
        if fault == "stall":
            time.sleep(self.files.stall_s)
        pieces = 10 if fault in ("slow", "cut") else 1
        size = -(-len(raw) // pieces)
        try:
            for k in range(pieces):
                if fault == "cut" and k == pieces // 2:
                    self.close_connection = True
                    return
                self.wfile.write(raw[k * size : (k + 1) * size])
                self.wfile.flush()
                time.sleep(0.02 if fault == "slow" else 0)
        except (BrokenPipeError, ConnectionResetError):  # the reader has enough
            self.close_connection = True
