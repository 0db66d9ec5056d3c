"""What the worker does: publishes sites as files, and looks whether files and database agree."""

import html
import logging

from celery import shared_task
from django.conf import settings

from .models import Site

log = logging.getLogger("content.publish")


def page_of(site):
    title = html.escape(site.title)
    return f"<!doctype html>\n<title>{title}</title>\n<h1>{title}</h1>\n<p>{html.escape(site.body)}</p>\n"


@shared_task
def publish_site(slug):
    site = Site.objects.get(slug=slug)
    directory = settings.SITES_ROOT / site.slug
    directory.mkdir(exist_ok=True)
    partial = directory / ".index.html.new"
    partial.write_text(page_of(site))
    partial.rename(directory / "index.html")
    site.status = "published"
    site.save(update_fields=["status"])
    log.info("published %s", slug)


@shared_task
def check_sites():
    """Each published site has its page, and it is the one that the database describes."""
    wrong = []
    for site in Site.objects.filter(status="published").order_by("slug"):
        page = settings.SITES_ROOT / site.slug / "index.html"
        if not page.is_file() or page.read_text() != page_of(site):
            wrong.append(site.slug)
    said = f"sites that do not match the database: {', '.join(wrong)}" if wrong else "all sites match the database"
    print(said, flush=True)
    if wrong:
        log.warning("%s", said)
