from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("content", "0002_sample_accounts")]
    operations = [
        migrations.AddIndex(model_name="site", index=models.Index(fields=["status"], name="content_site_status")),
    ]
