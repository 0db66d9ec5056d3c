"""Settings as IGNY8 takes them: from the environment."""

import os
import pathlib

BASE_DIR = pathlib.Path(__file__).resolve().parent.parent


def secret(name):
    """$NAME, or the content of the file that $NAME_FILE names."""
    file = os.environ.get(f"{name}_FILE")
    return pathlib.Path(file).read_text().strip() if file else os.environ.get(name, "")


# Signs nothing here: there are no sessions.
SECRET_KEY = "unused"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "igny8_core.urls"
INSTALLED_APPS = ["django.contrib.staticfiles", "content"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"

if os.environ.get("DB_HOST"):
    DATABASE = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["DB_HOST"],
        "NAME": os.environ.get("DB_NAME", "igny8_db"),
        "USER": os.environ.get("DB_USER", "igny8"),
        "PASSWORD": secret("DB_PASSWORD"),
        "CONN_MAX_AGE": 600,
        "OPTIONS": {"connect_timeout": 5},
    }
else:
    # Whoever writes waits for other writers, and for a backup that copies the file.
    DATABASE = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "/data/app/db/db.sqlite3",
        "OPTIONS": {"timeout": 60},
    }
DATABASES = {"default": DATABASE}

STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
# Uploads.
MEDIA_ROOT = pathlib.Path("/data/app/igny8/sites")
# Published sites, which the sites renderer serves.
SITES_ROOT = pathlib.Path("/data/app/sites-data")
LOGS = pathlib.Path("/data/app/logs")
PUBLISH_LOGS = BASE_DIR / "logs" / "publish-sync-logs"

REDIS = os.environ.get("REDIS_URL", "redis://redis:6379/0")
CELERY_BROKER_URL = REDIS
CELERY_RESULT_BACKEND = REDIS
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {
    "check published sites": {"task": "content.tasks.check_sites", "schedule": 2.0},
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(name)s %(message)s"}},
    "handlers": {
        "app": {"class": "logging.FileHandler", "filename": LOGS / "backend.log", "formatter": "line", "delay": True},
        "publish": {
            "class": "logging.FileHandler",
            "filename": PUBLISH_LOGS / "publish-sync.log",
            "formatter": "line",
            "delay": True,
        },
    },
    "loggers": {
        "content": {"handlers": ["app"], "level": "INFO"},
        "content.publish": {"handlers": ["publish"], "level": "INFO", "propagate": False},
    },
}
