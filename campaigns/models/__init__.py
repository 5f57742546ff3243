from campaigns.models.campaign import Campaign
from campaigns.models.counters import BounceReasonCount, CampaignCounters, HourlyCount
from campaigns.models.event import DroppedEvents, Event, EventWatermark, ExternalEvent, Judgement, Link, UserAgent
from campaigns.models.message import Message

__all__ = [
    "BounceReasonCount",
    "Campaign",
    "CampaignCounters",
    "DroppedEvents",
    "Event",
    "EventWatermark",
    "ExternalEvent",
    "HourlyCount",
    "Judgement",
    "Link",
    "Message",
    "UserAgent",
]
