"""For ASGI servers: `uvicorn trackingsite.asgi:application`."""

from tracking.server import create_tracking_app

application = create_tracking_app()
