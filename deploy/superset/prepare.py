"""Makes Superset's own database in $SUPERSET_HOME and the user admin with $SUPERSET_PASSWORD, in one process:
the commands `superset db upgrade`, `fab create-admin` and `init` take three times as long."""

import os

import flask_migrate
from superset.app import create_app

app = create_app()
with app.app_context():
    from superset import appbuilder, security_manager

    flask_migrate.upgrade(os.path.join(app.root_path, "migrations"))
    appbuilder.add_permissions(update_perms=True)
    security_manager.sync_role_definitions()
    admin = security_manager.find_role("Admin")
    password = os.environ["SUPERSET_PASSWORD"]
    made = security_manager.add_user("admin", "A", "D", "admin@localhost", admin, password=password)
    assert made, "the user admin could not be made"
