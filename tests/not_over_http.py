"""The failures that no request is answered with, written down by hand; a tidy test compares them with the code."""

from metering.access.keys import InvalidKeyError
from metering.access.manage_access import KeyIdTakenError
from metering.access.store.readers import (
    InvalidReaderNameError,
    ReaderExistsError,
    ReaderRefusedError,
    UnknownReaderError,
)
from metering.alerts.addresses import RefusedAddressError
from metering.archive.manifest import DamagedArchiveError
from metering.archive.read_archive import ArchivesMissingError
from metering.archive.remove_archived import JournalInUseError
from metering.archive.restore_archive import NotArchivedError
from metering.archive.write_archive import ArchiveRefusedError
from metering.audit.processes import AuditStoppedError
from metering.audit.receipt_document import UnreadableReceiptError
from metering.core.errors import MeteringError
from metering.core.folders import FolderError
from metering.db.schema import (
    MigrationBlockedError,
    RetentionRefusedError,
    RoleMissingError,
    SchemaOutdatedError,
    SchemaTooNewError,
    UnknownSchemaError,
)
from metering.exports.columns import UnrepresentableError
from metering.exports.export_month import ExportStoppedError
from metering.exports.month_rows import UnequalExportError
from metering.months.close_months import UnequalSumsError
from metering.months.keep_rates import UnexplainedLineError
from metering.months.run_invoices import ForceReasonMissingError, MonthNotOverError
from metering.prices.model_names import UnknownClauseError
from metering.prices.rating import RateMissingError
from metering.prices.read_prices import InvalidOwnPriceError
from metering.server.bootstrap import NotConfiguredError
from metering.server.settings import ConfigurationError
from metering.serving.processes import CannotListenError
from metering.streams.billing import UnmeasuredError, UnpricedError
from metering.stripe.client.errors import (
    StripeError,
    StripeMissingError,
    StripeRefusedError,
    StripeThrottledError,
    StripeUnauthorizedError,
    StripeUncertainError,
)
from metering.stripe.push_invoice import StartOverError
from metering.stripe.store.pushes import LeaseLostError
from metering.translations.openmeter_types import OpenMeterTypesError

# Raised at start, in workers, by the command line, or within an export whose answer has begun: no request is
# answered with them.
NOT_OVER_HTTP: frozenset[type[MeteringError]] = frozenset(
    {
        ArchiveRefusedError,
        ArchivesMissingError,
        AuditStoppedError,
        CannotListenError,
        ConfigurationError,
        DamagedArchiveError,
        ExportStoppedError,
        FolderError,
        ForceReasonMissingError,
        InvalidKeyError,
        InvalidOwnPriceError,
        InvalidReaderNameError,
        JournalInUseError,
        KeyIdTakenError,
        LeaseLostError,
        MigrationBlockedError,
        MonthNotOverError,
        NotArchivedError,
        NotConfiguredError,
        OpenMeterTypesError,
        RateMissingError,
        ReaderExistsError,
        ReaderRefusedError,
        RefusedAddressError,
        RetentionRefusedError,
        RoleMissingError,
        SchemaOutdatedError,
        SchemaTooNewError,
        StartOverError,
        StripeError,
        StripeMissingError,
        StripeRefusedError,
        StripeThrottledError,
        StripeUnauthorizedError,
        StripeUncertainError,
        UnequalExportError,
        UnequalSumsError,
        UnexplainedLineError,
        UnknownClauseError,
        UnknownReaderError,
        UnknownSchemaError,
        UnmeasuredError,
        UnpricedError,
        UnreadableReceiptError,
        UnrepresentableError,
    }
)
