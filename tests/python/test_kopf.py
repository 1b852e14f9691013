"""An operator of kopf, unmodified (`greeter.py`)."""

import contextlib
import os
import pathlib
import sys
import uuid

import pytest
from conftest import eventually, running
from kubernetes import client
from kubernetes.client.exceptions import ApiException

OPERATOR = pathlib.Path(__file__).with_name("greeter.py")
GREETINGS = ("kopf.example.com", "v1")


@contextlib.contextmanager
def defined(group: str, plural: str, kind: str, **more):
    """Defines a namespaced kind whose objects may say anything, and waits until it is served."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **more}
    spec = {"group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind}, "versions": [version]}
    api = client.ApiextensionsV1Api()
    api.create_custom_resource_definition({"metadata": {"name": f"{plural}.{group}"}, "spec": spec})

    def established():
        conditions = api.read_custom_resource_definition(f"{plural}.{group}").status.conditions or []
        return any(condition.type == "Established" and condition.status == "True" for condition in conditions)

    eventually(established)
    yield
    api.delete_custom_resource_definition(f"{plural}.{group}")


@pytest.fixture(scope="module")
def greetings(cluster):
    with defined("kopf.example.com", "greetings", "Greeting", subresources={"status": {}}):
        yield


@pytest.fixture
def peerings(cluster):
    with defined("kopf.dev", "kopfpeerings", "KopfPeering"):
        yield


@pytest.fixture
def operator(greetings, kubeconfig, namespace, tmp_path):
    """Runs the operator in the test's namespace, with arguments more; it ends cleanly."""

    @contextlib.contextmanager
    def run(*arguments: str):
        log = tmp_path / f"operator-{uuid.uuid4().hex[:8]}"
        command = [sys.executable, "-m", "kopf", "run", "--namespace", namespace, *arguments, str(OPERATOR)]
        environment = {"PATH": os.environ["PATH"], "KUBECONFIG": str(kubeconfig)}
        with running(command, log, environment):
            yield

    return run


def test_an_operator_creates_updates_and_says_farewell(operator, namespace):
    core, custom = client.CoreV1Api(), client.CustomObjectsApi()
    place = (*GREETINGS, namespace, "greetings")
    status = lambda: custom.get_namespaced_custom_object(*place, "a").get("status", {})
    text = lambda name: core.read_namespaced_config_map(name, namespace).data["text"]
    greeting = {"apiVersion": "kopf.example.com/v1", "kind": "Greeting", "metadata": {"name": "a"}, "spec": {"text": "hello"}}
    with operator("--standalone"):
        custom.create_namespaced_custom_object(*place, greeting)
        eventually(lambda: status().get("create") == {"said": "hello"})
        kept = core.read_namespaced_config_map("a", namespace)
        assert kept.data == {"text": "hello"}
        assert [(owner.kind, owner.name) for owner in kept.metadata.owner_references] == [("Greeting", "a")]
        found = custom.get_namespaced_custom_object(*place, "a")
        assert found["metadata"]["finalizers"] == ["kopf.example.com/farewell"]
        events = lambda: core.list_namespaced_event(namespace, field_selector="involvedObject.name=a").items
        said = lambda reason: [event.message for event in events() if event.reason == reason]
        eventually(lambda: said("Greeted") == ["said hello"])
        eventually(lambda: said("Lives") == ["until it is stopped"])
        eventually(lambda: status().get("ticks", 0) > 2)

        custom.patch_namespaced_custom_object(*place, "a", {"spec": {"text": "bonjour"}})
        eventually(lambda: text("a") == "bonjour")
        assert core.read_namespaced_config_map("a", namespace).data["before"] == "hello"

    # What happens while it is away is made up for.
    custom.patch_namespaced_custom_object(*place, "a", {"spec": {"text": "hallo"}})
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "marked", "labels": {"marked": "please"}}})
    with operator("--standalone"):
        eventually(lambda: text("a") == "hallo")
        eventually(lambda: status().get("resumed"))
        annotations = lambda: core.read_namespaced_config_map("marked", namespace).metadata.annotations or {}
        eventually(lambda: annotations().get("mark") == "here")

        custom.delete_namespaced_custom_object(*place, "a")
        eventually(lambda: not custom.list_namespaced_custom_object(*place)["items"])
        assert text("farewell-a") == "hallo"

        def collected():
            with contextlib.suppress(ApiException):
                return not core.read_namespaced_config_map("a", namespace)
            return True

        eventually(collected)


def test_operators_tell_each_other_of_themselves(peerings, operator, namespace):
    custom = client.CustomObjectsApi()
    place = ("kopf.dev", "v1", namespace, "kopfpeerings")
    custom.create_namespaced_custom_object(
        *place, {"apiVersion": "kopf.dev/v1", "kind": "KopfPeering", "metadata": {"name": "greeters"}}
    )
    peers = lambda: custom.get_namespaced_custom_object(*place, "greeters").get("status", {})
    with operator("--peering", "greeters", "--priority", "7"):
        eventually(lambda: [peer["priority"] for peer in peers().values()] == [7])
    assert peers() == {}
