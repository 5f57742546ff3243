from campaigns.models.campaign import Campaign
from campaigns.models.counters import BounceReasonCount, CampaignCounters, HourlyCount
from campaigns.models.event import Event, ExternalEvent, Judgement, Link, UserAgent
from campaigns.models.message import Message

__all__ = [
    "BounceReasonCount",
    "Campaign",
    "CampaignCounters",
    "Event",
    "ExternalEvent",
    "HourlyCount",
    "Judgement",
    "Link",
    "Message",
    "UserAgent",
]
