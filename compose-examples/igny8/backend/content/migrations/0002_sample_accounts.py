"""Invented tenants and invoices, the same ones each time."""

import datetime
import random

from django.db import migrations

ACCOUNTS = 50
INVOICES = 2000
WORDS = "credits monthly yearly seats sites keywords clusters images words upgrade refund discount tax paid".split()


def fill(apps, _):
    chance = random.Random(20251120)
    account = apps.get_model("content", "Account")
    account.objects.bulk_create(
        account(slug=f"account-{number:03}", name=f"Account {number}", credits=chance.randrange(10_000))
        for number in range(ACCOUNTS)
    )
    # SQLite does not tell the keys that it gave.
    accounts = list(account.objects.order_by("pk"))
    invoice = apps.get_model("content", "Invoice")
    invoice.objects.bulk_create(
        invoice(
            account=chance.choice(accounts),
            number=f"INV-{number:06}",
            amount=f"{chance.uniform(5, 900):.2f}",
            issued=datetime.date(2024, 1, 1) + datetime.timedelta(days=chance.randrange(700)),
            notes=" ".join(chance.choice(WORDS) for _ in range(25)),
        )
        for number in range(INVOICES)
    )


class Migration(migrations.Migration):
    dependencies = [("content", "0001_initial")]
    operations = [migrations.RunPython(fill)]
