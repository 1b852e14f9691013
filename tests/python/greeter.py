"""An operator as people write them with kopf: it keeps a ConfigMap for every Greeting, and says farewell to those that go."""

import kopf
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

GREETINGS = ("kopf.example.com", "v1", "greetings")


@kopf.on.startup()
def start(settings: kopf.OperatorSettings, **_):
    config.load_kube_config()
    settings.persistence.finalizer = "kopf.example.com/farewell"


@kopf.on.create(*GREETINGS)
def create(spec, name, namespace, retry, body, **_):
    if retry == 0:
        raise kopf.TemporaryError("not at the first try", delay=0.1)
    kept = {"metadata": {"name": name}, "data": {"text": spec["text"]}}
    kopf.adopt(kept)
    client.CoreV1Api().create_namespaced_config_map(namespace, kept)
    kopf.event(body, type="Normal", reason="Greeted", message=f"said {spec['text']}")
    return {"said": spec["text"]}


@kopf.on.update(*GREETINGS, field="spec.text")
def update(old, new, name, namespace, **_):
    client.CoreV1Api().patch_namespaced_config_map(name, namespace, {"data": {"text": new, "before": old}})


@kopf.on.delete(*GREETINGS)
def delete(spec, name, namespace, **_):
    farewell = {"metadata": {"name": f"farewell-{name}"}, "data": {"text": spec["text"]}}
    try:
        client.CoreV1Api().create_namespaced_config_map(namespace, farewell)
    except ApiException as error:
        # Handlers may run more than once: a timer's patch can bring the object back before its deletion is seen.
        if error.status != 409:
            raise


@kopf.on.resume(*GREETINGS)
def resume(patch, **_):
    patch.status["resumed"] = True


@kopf.timer(*GREETINGS, interval=0.1)
def tick(patch, status, **_):
    patch.status["ticks"] = status.get("ticks", 0) + 1


@kopf.daemon(*GREETINGS, cancellation_timeout=1)
async def live(stopped, body, **_):
    kopf.event(body, type="Normal", reason="Lives", message="until it is stopped")
    await stopped.wait()


@kopf.on.event("configmaps", labels={"marked": "please"})
def mark(patch, annotations, **_):
    if "mark" not in annotations:
        patch.metadata.annotations["mark"] = "here"
