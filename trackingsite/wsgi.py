"""For `manage.py runserver`. Servers take `tracking.server:create_tracking_app()`, which also makes the database ready."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "trackingsite.settings")
application = get_wsgi_application()
