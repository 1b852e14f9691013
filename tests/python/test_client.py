"""The official Python client, unmodified."""

import pytest
from conftest import WAIT_SECONDS, eventually
from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream


def pod(name: str, **spec) -> dict:
    container = {"name": "main", "image": "localhost/cli:latest"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"runtimeClassName": "wasmtime", "restartPolicy": "Never", "containers": [container], **spec},
    }


def ready_account(namespace: str) -> None:
    """Pods need the namespace's default service account."""

    def exists():
        accounts = client.CoreV1Api().list_namespaced_service_account(namespace).items
        return any(account.metadata.name == "default" for account in accounts)

    eventually(exists)


def test_config_maps_are_created_read_patched_and_deleted(namespace):
    core = client.CoreV1Api()
    created = core.create_namespaced_config_map(namespace, {"metadata": {"name": "c"}, "data": {"a": "1"}})
    assert created.metadata.uid and created.metadata.resource_version
    assert core.read_namespaced_config_map("c", namespace).data == {"a": "1"}
    patched = core.patch_namespaced_config_map("c", namespace, {"data": {"b": "2"}})
    assert patched.data == {"a": "1", "b": "2"}
    core.delete_namespaced_config_map("c", namespace)
    with pytest.raises(ApiException) as missing:
        core.read_namespaced_config_map("c", namespace)
    assert missing.value.status == 404


def test_a_conflict_is_a_409(namespace):
    core = client.CoreV1Api()
    first = core.create_namespaced_config_map(namespace, {"metadata": {"name": "c"}})
    core.patch_namespaced_config_map("c", namespace, {"data": {"a": "1"}})
    first.data = {"a": "2"}
    with pytest.raises(ApiException) as conflict:
        core.replace_namespaced_config_map("c", namespace, first)
    assert conflict.value.status == 409


def test_a_watch_from_a_list_misses_nothing(namespace):
    core = client.CoreV1Api()
    listed = core.list_namespaced_config_map(namespace)
    for number in range(5):
        core.create_namespaced_config_map(namespace, {"metadata": {"name": f"w{number}", "labels": {"w": "1"}}})
    seen = []
    stream = watch.Watch()
    for event in stream.stream(
        core.list_namespaced_config_map,
        namespace,
        resource_version=listed.metadata.resource_version,
        label_selector="w=1",
        timeout_seconds=WAIT_SECONDS,
    ):
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 5:
            stream.stop()
    assert seen == [("ADDED", f"w{number}") for number in range(5)]


def test_lists_come_in_chunks(namespace):
    core = client.CoreV1Api()
    for number in range(7):
        core.create_namespaced_config_map(namespace, {"metadata": {"name": f"p{number}", "labels": {"p": "1"}}})
    names, token = [], None
    while True:
        page = core.list_namespaced_config_map(namespace, label_selector="p=1", limit=3, _continue=token)
        assert len(page.items) <= 3
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert names == [f"p{number}" for number in range(7)]


def test_a_command_runs_to_its_end_and_its_log_is_read(namespace, load_image):
    load_image("examples/cli/cli.wasm", "localhost/cli:latest")
    ready_account(namespace)
    core = client.CoreV1Api()
    core.create_namespaced_pod(namespace, pod("once"))
    eventually(lambda: core.read_namespaced_pod("once", namespace).status.phase == "Succeeded")
    assert core.read_namespaced_pod_log("once", namespace) == "Hello, world!\n"


def test_a_deployment_becomes_available_and_scales(namespace, load_image):
    load_image("examples/hello/hello.wasm", "localhost/hello:latest")
    ready_account(namespace)
    apps = client.AppsV1Api()
    template = {
        "metadata": {"labels": {"app": "hello"}},
        "spec": {"runtimeClassName": "wasmtime", "containers": [{"name": "hello", "image": "localhost/hello:latest"}]},
    }
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "hello"}}, "template": template}
    apps.create_namespaced_deployment(namespace, {"metadata": {"name": "hello"}, "spec": spec})
    available = lambda: apps.read_namespaced_deployment_status("hello", namespace).status.available_replicas
    eventually(lambda: available() == 2)
    apps.patch_namespaced_deployment_scale("hello", namespace, {"spec": {"replicas": 3}})
    eventually(lambda: available() == 3)


def test_an_invalid_object_is_a_422_with_causes(namespace):
    with pytest.raises(ApiException) as invalid:
        client.CoreV1Api().create_namespaced_config_map(namespace, {"metadata": {"name": "Not_Valid"}})
    assert invalid.value.status == 422
    assert '"field":"metadata.name"' in invalid.value.body


def test_commands_run_in_pods(namespace, load_image):
    load_image("examples/hello/hello.wasm", "localhost/hello:latest")
    core = client.CoreV1Api()
    ready_account(namespace)
    container = {"name": "main", "image": "localhost/hello:latest", "env": [{"name": "COLOUR", "value": "blue"}]}
    core.create_namespaced_pod(namespace, pod("web", containers=[container]))
    eventually(lambda: core.read_namespaced_pod("web", namespace).status.phase == "Running")
    ways = {"stderr": True, "stdin": False, "stdout": True, "tty": False}
    env = stream(core.connect_get_namespaced_pod_exec, "web", namespace, command=["env"], **ways)
    assert "COLOUR=blue\n" in env
    cat = stream(
        core.connect_get_namespaced_pod_exec, "web", namespace, command=["cat", "/nowhere"], **ways, _preload_content=False
    )
    cat.run_forever(timeout=WAIT_SECONDS)
    assert cat.returncode == 1
    assert cat.read_stderr() == "cat: /nowhere: No such file or directory\n"
