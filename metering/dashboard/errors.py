"""What can be wrong with a request to the dashboard; each is answered with a page that says what to do."""

from metering.core.errors import MeteringError


class DashboardError(MeteringError):
    """A request that cannot be answered with what it asked for. `status` is HTTP's."""

    status = 400
    title = "That did not work"


class WrongQuestionError(DashboardError):
    """A filter or a form that makes no sense; the message names the field."""

    status = 422
    title = "The question does not make sense"


class NoSuchThingError(DashboardError):
    """There is no such page, customer, stream or invoice, or the viewer may not see it."""

    status = 404
    title = "There is no such thing"


class NotAllowedError(DashboardError):
    """The viewer's key may not do this."""

    status = 403
    title = "Your key may not do this"


class TooSlowError(DashboardError):
    """The database took too long over the question."""

    status = 503
    title = "That takes too long to add up"


class BusyError(DashboardError):
    """A download that cannot be sent now, or not in this way."""

    status = 503
    title = "The download cannot be sent"


class SignedOutError(DashboardError):
    """Nobody is signed in."""

    status = 401
    title = "Sign in"


class TooManyAttemptsError(DashboardError):
    """Somebody tries keys."""

    status = 429
    title = "Too many attempts"
