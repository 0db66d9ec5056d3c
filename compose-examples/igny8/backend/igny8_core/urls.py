from content import views
from django.conf import settings
from django.urls import path
from django.views.static import serve

urlpatterns = [
    path("health/", views.health),
    path("api/v1/system/status/", views.status),
    path("api/v1/summary/", views.summary),
    path("api/v1/sites/", views.create_site),
    path("api/v1/sites/<slug:slug>/", views.show_site),
    path("api/v1/uploads/<path:name>", views.upload),
    path("static/<path:path>", serve, {"document_root": settings.STATIC_ROOT}),
]
