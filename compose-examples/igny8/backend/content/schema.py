from django.db import connection
from django.db.migrations.executor import MigrationExecutor


def pending_migrations():
    """The names of the migrations that the database lacks."""
    connection.close_if_unusable_or_obsolete()
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]
