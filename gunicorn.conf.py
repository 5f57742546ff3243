"""Read by gunicorn when it is started in this folder: gunicorn -w 4 -b 0.0.0.0:5000 'tracking.server:create_tracking_app()'"""

import sys

from tracking.conf import Conf, WrongSetting
from tracking.serving.gunicorn import settings

try:
    globals().update(settings(Conf()))
except WrongSetting as error:
    sys.exit(f"Cannot start: {error}")
