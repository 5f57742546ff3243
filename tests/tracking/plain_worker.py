"""Our worker without its fast layer: Django answers the hits."""

from tracking.serving.protocol import TrackingProtocol
from tracking.serving.worker import TrackingWorker


class PlainWorker(TrackingWorker):
    async def choose_protocol(self) -> type[TrackingProtocol]:
        return TrackingProtocol
