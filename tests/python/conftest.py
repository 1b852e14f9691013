"""A cluster of the real binary for clients in Python. `K8W_BINARY` names the binary."""

import contextlib
import os
import pathlib
import signal
import subprocess
import time
import uuid

import pytest
from kubernetes import client, config

START_SECONDS = 60
STOP_SECONDS = 30
WAIT_SECONDS = 60


def eventually(look):
    """Calls `look` until it answers something true."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (answer := look()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer


@contextlib.contextmanager
def running(command, log, environment=None):
    """Runs a command with its output in a file, and ends it, cleanly; it never outlives this process."""
    command = ["setpriv", "--pdeathsig", "TERM", "--", *command]
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        yield process
    except BaseException:
        print(log.read_text())
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0, log.read_text()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """Starts a cluster, and stops it cleanly at the end."""
    folder = tmp_path_factory.mktemp("k8w")
    kubeconfig, log = folder / "kubeconfig", folder / "stderr"
    arguments = [
        os.environ["K8W_BINARY"], "up", "--port", "0", "--ingress-http-port", "0", "--ingress-https-port", "0",
        "--kubelet-port", "0", "--kernel-network", "off",
        "--node-port-range", "19000-19049", "--data-dir", str(folder / "data"), "--kubeconfig", str(kubeconfig),
    ]
    with running(arguments, log) as process:
        deadline = time.monotonic() + START_SECONDS
        while "Ingress for HTTP: " not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        config.load_kube_config(str(kubeconfig))
        yield folder / "data"


@pytest.fixture
def kubeconfig(cluster):
    """The administrator's."""
    return cluster.parent / "kubeconfig"


@pytest.fixture
def namespace(cluster):
    """A namespace of the test's own."""
    core = client.CoreV1Api()
    name = f"t-{uuid.uuid4().hex[:8]}"
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)


@pytest.fixture
def load_image(cluster):
    """Loads a component of the repository as an image."""
    root = pathlib.Path(__file__).parents[2]

    def load(file: str, name: str) -> None:
        command = [os.environ["K8W_BINARY"], "image", "load", str(root / file), "--tag", name, "--data-dir", str(cluster)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return load
