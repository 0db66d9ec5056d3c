import django.db.models.deletion
from django.db import migrations, models

KEY = ("id", models.BigAutoField(primary_key=True))


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Account",
            fields=[
                KEY,
                ("slug", models.SlugField(unique=True)),
                ("name", models.CharField(max_length=200)),
                ("credits", models.IntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="Invoice",
            fields=[
                KEY,
                ("number", models.CharField(max_length=40, unique=True)),
                ("amount", models.DecimalField(decimal_places=2, max_digits=10)),
                ("issued", models.DateField()),
                ("notes", models.TextField()),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="invoices", to="content.account"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Site",
            fields=[
                KEY,
                ("slug", models.SlugField(unique=True)),
                ("title", models.CharField(max_length=200)),
                ("body", models.TextField()),
                ("status", models.CharField(default="draft", max_length=20)),
                (
                    "account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="sites", to="content.account"
                    ),
                ),
            ],
        ),
    ]
