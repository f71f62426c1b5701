"""The pages: each reads its data in one snapshot and returns what to render."""

from metering.dashboard.pages.adjust import adjust
from metering.dashboard.pages.alert import alert, new_alert
from metering.dashboard.pages.alerts import alerts
from metering.dashboard.pages.audit_log import audit_log
from metering.dashboard.pages.backlog import backlog
from metering.dashboard.pages.budgets import budgets
from metering.dashboard.pages.credits import credits_page, grant
from metering.dashboard.pages.customers import customer, customers
from metering.dashboard.pages.drift import drift
from metering.dashboard.pages.invoice import entries, invoice
from metering.dashboard.pages.invoices import invoices
from metering.dashboard.pages.keys import keys
from metering.dashboard.pages.models import models
from metering.dashboard.pages.month_end import month_end
from metering.dashboard.pages.overview import overview
from metering.dashboard.pages.rates import rate, rates
from metering.dashboard.pages.search import search
from metering.dashboard.pages.settle import settle
from metering.dashboard.pages.start import start
from metering.dashboard.pages.stream import sheet, stream
from metering.dashboard.pages.streams import streams
from metering.dashboard.pages.system import system
from metering.dashboard.pages.webhook import new_webhook, webhook
from metering.dashboard.stream_filters import suggestions

PAGES = (
    ("/", overview),
    ("/start", start),
    ("/customers", customers),
    ("/customer", customer),
    ("/adjust", adjust),
    ("/budgets", budgets),
    ("/credits", credits_page),
    ("/grant", grant),
    ("/models", models),
    ("/streams", streams),
    ("/streams/suggestions", suggestions),
    ("/stream", stream),
    ("/stream/sheet", sheet),
    ("/month-end", month_end),
    ("/invoices", invoices),
    ("/invoice", invoice),
    ("/invoice/entries", entries),
    ("/drift", drift),
    ("/alerts", alerts),
    ("/alert", alert),
    ("/alert/new", new_alert),
    ("/webhook", webhook),
    ("/webhook/new", new_webhook),
    ("/backlog", backlog),
    ("/settle", settle),
    ("/rates", rates),
    ("/rate", rate),
    ("/keys", keys),
    ("/audit-log", audit_log),
    ("/system", system),
    ("/search", search),
)
