"""What the backend answers, as JSON."""

import hashlib
import json
import logging
import pathlib

from django.conf import settings
from django.core import serializers
from django.db import connection
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils._os import safe_join
from django.views.decorators.http import require_http_methods

from .models import Account, Invoice, Site
from .schema import pending_migrations
from .tasks import publish_site

log = logging.getLogger("content")


def health(_):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "ok"})


def status(_):
    return JsonResponse({"pending_migrations": pending_migrations()})


def summary(_):
    """Row counts, and a checksum over every column of every row."""

    def of(model):
        rows = serializers.serialize("json", model.objects.order_by("pk"))
        return {"rows": model.objects.count(), "checksum": hashlib.sha256(rows.encode()).hexdigest()}

    return JsonResponse({model._meta.model_name: of(model) for model in (Account, Invoice, Site)})


@require_http_methods(["POST"])
def create_site(request):
    body = json.loads(request.body)
    account = get_object_or_404(Account, slug=body["account"])
    site = Site.objects.create(account=account, slug=body["slug"], title=body["title"], body=body["body"])
    log.info("site %s created", site.slug)
    publish_site.delay(site.slug)
    return show_site(request, site.slug, status=201)


def show_site(_, slug, status=200):
    site = get_object_or_404(Site, slug=slug)
    answer = {"slug": site.slug, "title": site.title, "body": site.body, "status": site.status}
    return JsonResponse({**answer, "account": site.account.slug}, status=status)


@require_http_methods(["GET", "POST"])
def upload(request, name):
    path = pathlib.Path(safe_join(settings.MEDIA_ROOT, name))
    if request.method == "POST":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(request.body)
        log.info("upload %s", name)
        return JsonResponse({"name": name, "bytes": len(request.body)}, status=201)
    if not path.is_file():
        raise Http404(name)
    return HttpResponse(path.read_bytes(), content_type="application/octet-stream")
