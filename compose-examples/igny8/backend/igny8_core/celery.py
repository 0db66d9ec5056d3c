import os

from celery import Celery
from celery.signals import beat_init, worker_ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "igny8_core.settings")

app = Celery("igny8")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


def say_schema(who):
    from content.schema import pending_migrations

    pending = pending_migrations()
    print(f"{who} started: {', '.join(pending) + ' not applied' if pending else 'schema up to date'}", flush=True)


@worker_ready.connect
def worker_started(**_):
    say_schema("worker")


@beat_init.connect
def beat_started(**_):
    say_schema("beat")
