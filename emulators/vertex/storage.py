"""Cloud Storage's JSON API over a plain folder: gs://BUCKET/x is FOLDER/BUCKET/x, whoever wrote it.

The servers on PyPI keep their own notes beside each object and refuse a bucket that holds files they did not write;
here a pipeline that ran on this machine has written half of them. Clients find it by STORAGE_EMULATOR_HOST.
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


class Storage:
    """The server; a context manager."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
        self._server.daemon_threads = True
        self._server.folder = folder  # type: ignore[attr-defined]
        self._server.uploads = {}  # type: ignore[attr-defined]
        self._server.lock = threading.Lock()  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Storage":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _ProblemError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            for method, pattern, answer in _ROUTES:
                found = re.fullmatch(pattern, url.path)
                if found and method == self.command:
                    answer(self, query, body, *(unquote(part) for part in found.groups()))
                    return
            raise _ProblemError(501, f"not emulated: {self.command} {self.path}")
        except _ProblemError as problem:
            self._json({"error": {"code": problem.code, "message": str(problem)}}, problem.code)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _handle  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Says nothing: a line for each request would hide the ones that matter."""

    def _json(self, value: Any, code: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), code, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, body: bytes, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _bucket(self, name: str) -> Path:
        path = self.server.folder / name  # type: ignore[attr-defined]
        if "/" in name or not path.is_dir():
            raise _ProblemError(404, f"The bucket {name} does not exist.")
        return path

    def _object(self, bucket: str, name: str, *, there: bool = True) -> Path:
        folder = self._bucket(bucket)
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise _ProblemError(400, f"{name}: is not an object's name")
        if there and not path.is_file():
            raise _ProblemError(404, f"No such object: {bucket}/{name}")
        return path

    def _described(self, bucket: str, name: str, path: Path) -> dict[str, Any]:
        content = path.read_bytes()
        generation = str(path.stat().st_mtime_ns)
        quoted = f"http://{self.headers['Host']}/storage/v1/b/{bucket}/o/{quote(name, safe='')}"
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
            "selfLink": quoted,
            "mediaLink": quoted.replace("/storage/v1/", "/download/storage/v1/") + "?alt=media",
            "timeCreated": "2020-01-01T00:00:00Z",
            "updated": "2020-01-01T00:00:00Z",
        }

    def _write(self, bucket: str, name: str, content: bytes, query: dict[str, str]) -> None:
        path = self._object(bucket, name, there=False)
        with self.server.lock:  # type: ignore[attr-defined]
            wanted = query.get("ifGenerationMatch")
            found = str(path.stat().st_mtime_ns) if path.exists() else "0"
            if wanted is not None and wanted != found:
                raise _ProblemError(412, f"{bucket}/{name}: the generation is {found}, not {wanted}")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        self._json(self._described(bucket, name, path))

    def _buckets(self, query: dict[str, str], body: bytes) -> None:
        if self.command == "POST":
            (self.server.folder / json.loads(body)["name"]).mkdir(exist_ok=True)  # type: ignore[attr-defined]
            self._one_bucket(query, body, json.loads(body)["name"])
            return
        names = sorted(p.name for p in self.server.folder.iterdir() if p.is_dir())  # type: ignore[attr-defined]
        self._json({"kind": "storage#buckets", "items": [{"name": name} for name in names]})

    def _one_bucket(self, query: dict[str, str], body: bytes, bucket: str) -> None:
        self._bucket(bucket)
        self._json({"kind": "storage#bucket", "id": bucket, "name": bucket, "location": "US", "projectNumber": "0"})

    def _list(self, query: dict[str, str], body: bytes, bucket: str) -> None:
        folder = self._bucket(bucket)
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
                items.append(self._described(bucket, name, path))
        self._json({"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)})

    def _get(self, query: dict[str, str], body: bytes, bucket: str, name: str) -> None:
        path = self._object(bucket, name)
        if query.get("alt") != "media":
            self._json(self._described(bucket, name, path))
            return
        content, code = path.read_bytes(), 200
        total = len(content)
        headers = {"Content-Type": "application/octet-stream"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            first, last = int(asked[1]), min(int(asked[2] or total), total - 1)
            if first >= total:
                raise _ProblemError(416, f"{bucket}/{name}: has {total} bytes")
            content, code = content[first : last + 1], 206
            headers["Content-Range"] = f"bytes {first}-{last}/{total}"
        self._send(content, code, headers)

    def _delete(self, query: dict[str, str], body: bytes, bucket: str, name: str) -> None:
        self._object(bucket, name).unlink()
        self._send(b"", 204, {})

    def _copy(self, query: dict[str, str], body: bytes, bucket: str, name: str, to: str, new: str) -> None:
        content = self._object(bucket, name).read_bytes()
        target = self._object(to, new, there=False)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        size = str(len(content))
        self._json(
            {
                "done": True,
                "totalBytesRewritten": size,
                "objectSize": size,
                "resource": self._described(to, new, target),
            }
        )

    def _upload(self, query: dict[str, str], body: bytes, bucket: str) -> None:
        self._bucket(bucket)
        kind = query.get("uploadType")
        if kind == "media":
            self._write(bucket, query["name"], body, query)
        elif kind == "multipart":
            boundary = re.search(r'boundary="?([^";]+)"?', self.headers["Content-Type"])
            assert boundary is not None
            _, described, content, *_ = body.split(b"--" + boundary[1].encode())
            name = json.loads(described.split(b"\r\n\r\n", 1)[1])["name"]
            self._write(bucket, name, content.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n"), query)
        elif kind == "resumable":
            name = query.get("name") or json.loads(body)["name"]
            upload = uuid.uuid4().hex
            self.server.uploads[upload] = (bucket, name, query, bytearray())  # type: ignore[attr-defined]
            self._json({}, headers={"Location": f"http://{self.headers['Host']}{self.path}&upload_id={upload}"})
        else:
            raise _ProblemError(400, f"uploadType {kind} is not known")

    def _chunk(self, query: dict[str, str], body: bytes, bucket: str) -> None:
        upload = self.server.uploads.get(query.get("upload_id"))  # type: ignore[attr-defined]
        if upload is None:
            raise _ProblemError(404, "no such upload")
        _, name, asked, content = upload
        content.extend(body)
        total = self.headers.get("Content-Range", "/").rpartition("/")[2]
        if total not in ("", "*") and len(content) < int(total):
            self._send(b"", 308, {"Range": f"bytes=0-{len(content) - 1}"})
        else:
            self._write(bucket, name, bytes(content), asked)


_ROUTES: list[tuple[str, str, Any]] = [
    ("GET", r"/storage/v1/b", _Handler._buckets),
    ("POST", r"/storage/v1/b", _Handler._buckets),
    ("GET", r"/storage/v1/b/([^/]+)", _Handler._one_bucket),
    ("GET", r"/storage/v1/b/([^/]+)/o", _Handler._list),
    ("GET", r"/(?:download/)?storage/v1/b/([^/]+)/o/([^/]+)", _Handler._get),
    ("DELETE", r"/storage/v1/b/([^/]+)/o/([^/]+)", _Handler._delete),
    ("POST", r"/storage/v1/b/([^/]+)/o/([^/]+)/(?:rewriteTo|copyTo)/b/([^/]+)/o/([^/]+)", _Handler._copy),
    ("POST", r"/upload/storage/v1/b/([^/]+)/o", _Handler._upload),
    ("PUT", r"/upload/storage/v1/b/([^/]+)/o", _Handler._chunk),
]
