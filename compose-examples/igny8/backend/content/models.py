"""What an IGNY8 database holds, in small: tenants, their billing, and sites that refer to published files."""

from django.db import models


class Account(models.Model):
    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=200)
    credits = models.IntegerField(default=0)


class Invoice(models.Model):
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="invoices")
    number = models.CharField(max_length=40, unique=True)
    amount = models.DecimalField(max_digits=10, decimal_places=2)
    issued = models.DateField()
    notes = models.TextField()


class Site(models.Model):
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="sites")
    slug = models.SlugField(unique=True)
    title = models.CharField(max_length=200)
    body = models.TextField()
    status = models.CharField(max_length=20, default="draft")

    class Meta:
        indexes = [models.Index(fields=["status"], name="content_site_status")]
