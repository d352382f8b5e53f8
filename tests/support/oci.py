"""Makes OCI layouts below the folder DIR: single (tag 1), multi (tag 1, two architectures), chart (tag 0.1.0).

python3 oci.py DIR [TEXT]: another TEXT gives other digests. The layouts are made to be small, not to be run.
"""
import gzip
import hashlib
import io
import json
import pathlib
import sys
import tarfile

OCI = "application/vnd.oci.image."
HELM = "application/vnd.cncf.helm."
out = pathlib.Path(sys.argv[1])
text = sys.argv[2] if len(sys.argv) > 2 else "one"


def encode(value):
    return json.dumps(value, separators=(",", ":")).encode()


def blob(folder, data, media_type, **more):
    digest = hashlib.sha256(data).hexdigest()
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    (blobs / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data), **more}


def tar(name, content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def manifest(folder, config, layer):
    content = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json", "config": config, "layers": [layer]}
    return blob(folder, encode(content), OCI + "manifest.v1+json")


def image(folder, architecture):
    layer = tar("hello.txt", (text + architecture).encode())
    diff = "sha256:" + hashlib.sha256(layer).hexdigest()
    config = {"architecture": architecture, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff]}}
    return manifest(
        folder,
        blob(folder, encode(config), OCI + "config.v1+json"),
        blob(folder, gzip.compress(layer, mtime=0), OCI + "layer.v1.tar+gzip"),
    )


def index(folder):
    children = [
        dict(image(folder, architecture), platform={"architecture": architecture, "os": "linux"})
        for architecture in ("amd64", "arm64")
    ]
    content = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": children}
    return blob(folder, encode(content), OCI + "index.v1+json")


def chart(folder):
    content = b"apiVersion: v2\nname: demo\nversion: 0.1.0\n"
    return manifest(
        folder,
        blob(folder, encode({"name": "demo", "version": "0.1.0", "apiVersion": "v2"}), HELM + "config.v1+json"),
        blob(folder, gzip.compress(tar("demo/Chart.yaml", content), mtime=0), HELM + "chart.content.v1.tar+gzip"),
    )


def layout(name, tag, make):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    entry = dict(make(folder), annotations={"org.opencontainers.image.ref.name": tag})
    (folder / "index.json").write_bytes(encode({"schemaVersion": 2, "manifests": [entry]}))
    print(name, entry["digest"])


layout("single", "1", lambda folder: image(folder, "amd64"))
layout("multi", "1", index)
layout("chart", "0.1.0", chart)
