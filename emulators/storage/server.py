"""Cloud Storage's JSON API over a plain folder: gs://BUCKET/x is FOLDER/BUCKET/x, whoever wrote it.

The servers on PyPI keep their own notes beside each object, and reject a bucket with files that they did not write.
Here, a pipeline on this machine has written half of them. Clients find it by STORAGE_EMULATOR_HOST.
"""

import base64
import hashlib
import json
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import google_crc32c

from cli.state_files import write_atomically


class StorageServer:
    """A server of Cloud Storage's JSON API; a context manager.

    Attributes:
      url: address, as STORAGE_EMULATOR_HOST has it.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._server = _HttpServer(folder, port)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "StorageServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.folder = folder
        self.lock = threading.Lock()
        # Bucket, name, query and content of each resumable upload.
        self.uploads: dict[str, tuple[str, str, dict[str, str], bytearray]] = {}


class _HttpError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HttpServer

    def _handle(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            for method, pattern, handler in _ROUTES:
                match = re.fullmatch(pattern, url.path)
                if match and method == self.command:
                    handler(self, query, body, *(unquote(part) for part in match.groups()))
                    return
            raise _HttpError(501, f"not emulated: {self.command} {self.path}")
        except _HttpError as problem:
            self._send_json({"error": {"code": problem.code, "message": str(problem)}}, problem.code)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _handle  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Print nothing: a line for each request would hide the important ones."""

    def _send_json(self, value: Any, code: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), code, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, body: bytes, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _find_bucket(self, name: str) -> Path:
        path = self.server.folder / name
        if "/" in name or not path.is_dir():
            raise _HttpError(404, f"The bucket {name} does not exist.")
        return path

    def _find_object(self, bucket: str, name: str, *, must_exist: bool = True) -> Path:
        folder = self._find_bucket(bucket)
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise _HttpError(400, f"{name}: is not an object's name")
        if must_exist and not path.is_file():
            raise _HttpError(404, f"No such object: {bucket}/{name}")
        return path

    def _describe(self, bucket: str, name: str, path: Path) -> dict[str, Any]:
        content = path.read_bytes()
        generation = str(path.stat().st_mtime_ns)
        link = f"http://{self.headers['Host']}/storage/v1/b/{bucket}/o/{quote(name, safe='')}"
        return {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{generation}",
            "name": name,
            "bucket": bucket,
            "size": str(len(content)),
            "generation": generation,
            "metageneration": "1",
            "md5Hash": base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode(),
            "crc32c": base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode(),
            "selfLink": link,
            "mediaLink": link.replace("/storage/v1/", "/download/storage/v1/") + "?alt=media",
            "timeCreated": "2020-01-01T00:00:00Z",
            "updated": "2020-01-01T00:00:00Z",
        }

    def _write(self, bucket: str, name: str, content: bytes, query: dict[str, str]) -> None:
        path = self._find_object(bucket, name, must_exist=False)
        with self.server.lock:
            expected = query.get("ifGenerationMatch")
            generation = str(path.stat().st_mtime_ns) if path.exists() else "0"
            if expected is not None and expected != generation:
                raise _HttpError(412, f"{bucket}/{name}: the generation is {generation}, not {expected}")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        self._send_json(self._describe(bucket, name, path))

    def _list_or_create_buckets(self, query: dict[str, str], body: bytes) -> None:
        if self.command == "POST":
            (self.server.folder / json.loads(body)["name"]).mkdir(exist_ok=True)
            self._get_bucket(query, body, json.loads(body)["name"])
            return
        names = sorted(p.name for p in self.server.folder.iterdir() if p.is_dir())
        self._send_json({"kind": "storage#buckets", "items": [{"name": name} for name in names]})

    def _get_bucket(self, query: dict[str, str], body: bytes, bucket: str) -> None:
        self._find_bucket(bucket)
        self._send_json(
            {"kind": "storage#bucket", "id": bucket, "name": bucket, "location": "US", "projectNumber": "0"}
        )

    def _list(self, query: dict[str, str], body: bytes, bucket: str) -> None:
        folder = self._find_bucket(bucket)
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        items, prefixes = [], set()
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = path.relative_to(folder).as_posix()
            if not name.startswith(prefix):
                continue
            head, cut, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
            if cut:
                prefixes.add(prefix + head + delimiter)
            else:
                items.append(self._describe(bucket, name, path))
        self._send_json({"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)})

    def _get(self, query: dict[str, str], body: bytes, bucket: str, name: str) -> None:
        path = self._find_object(bucket, name)
        if query.get("alt") != "media":
            self._send_json(self._describe(bucket, name, path))
            return
        content, code = path.read_bytes(), 200
        total = len(content)
        headers = {"Content-Type": "application/octet-stream"}
        byte_range = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if byte_range:
            first, last = int(byte_range[1]), min(int(byte_range[2] or total), total - 1)
            if first >= total:
                raise _HttpError(416, f"{bucket}/{name}: has {total} bytes")
            content, code = content[first : last + 1], 206
            headers["Content-Range"] = f"bytes {first}-{last}/{total}"
        self._send(content, code, headers)

    def _delete(self, query: dict[str, str], body: bytes, bucket: str, name: str) -> None:
        self._find_object(bucket, name).unlink()
        self._send(b"", 204, {})

    def _copy(self, query: dict[str, str], body: bytes, bucket: str, name: str, to: str, new: str) -> None:
        content = self._find_object(bucket, name).read_bytes()
        target = self._find_object(to, new, must_exist=False)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        size = str(len(content))
        self._send_json(
            {
                "done": True,
                "totalBytesRewritten": size,
                "objectSize": size,
                "resource": self._describe(to, new, target),
            }
        )

    def _upload(self, query: dict[str, str], body: bytes, bucket: str) -> None:
        self._find_bucket(bucket)
        kind = query.get("uploadType")
        if kind == "media":
            self._write(bucket, query["name"], body, query)
        elif kind == "multipart":
            boundary = re.search(r'boundary="?([^";]+)"?', self.headers["Content-Type"])
            assert boundary is not None
            _, description, content, *_ = body.split(b"--" + boundary[1].encode())
            name = json.loads(description.split(b"\r\n\r\n", 1)[1])["name"]
            self._write(bucket, name, content.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n"), query)
        elif kind == "resumable":
            name = query.get("name") or json.loads(body)["name"]
            upload = uuid.uuid4().hex
            self.server.uploads[upload] = (bucket, name, query, bytearray())
            self._send_json({}, headers={"Location": f"http://{self.headers['Host']}{self.path}&upload_id={upload}"})
        else:
            raise _HttpError(400, f"uploadType {kind} is not emulated")

    def _append(self, query: dict[str, str], body: bytes, bucket: str) -> None:
        upload = self.server.uploads.get(query.get("upload_id", ""))
        if upload is None:
            raise _HttpError(404, "no such upload")
        _, name, first_query, content = upload
        content.extend(body)
        total = self.headers.get("Content-Range", "/").rpartition("/")[2]
        if total not in ("", "*") and len(content) < int(total):
            self._send(b"", 308, {"Range": f"bytes=0-{len(content) - 1}"})
        else:
            self._write(bucket, name, bytes(content), first_query)


_ROUTES: list[tuple[str, str, Any]] = [
    ("GET", r"/storage/v1/b", _Handler._list_or_create_buckets),
    ("POST", r"/storage/v1/b", _Handler._list_or_create_buckets),
    ("GET", r"/storage/v1/b/([^/]+)", _Handler._get_bucket),
    ("GET", r"/storage/v1/b/([^/]+)/o", _Handler._list),
    ("GET", r"/(?:download/)?storage/v1/b/([^/]+)/o/([^/]+)", _Handler._get),
    ("DELETE", r"/storage/v1/b/([^/]+)/o/([^/]+)", _Handler._delete),
    ("POST", r"/storage/v1/b/([^/]+)/o/([^/]+)/(?:rewriteTo|copyTo)/b/([^/]+)/o/([^/]+)", _Handler._copy),
    ("POST", r"/upload/storage/v1/b/([^/]+)/o", _Handler._upload),
    ("PUT", r"/upload/storage/v1/b/([^/]+)/o", _Handler._append),
]
