"""Forms: their fields, read within bounds."""

from urllib.parse import parse_qsl

from starlette.requests import Request

from metering.dashboard.errors import WrongQuestionError

_MAX_BODY = 16 * 1024


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form; of two with the same name, the first.

    Raises:
        WrongQuestionError: it is no form, or longer than any of ours.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise WrongQuestionError("the form was not sent as a form")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            raise WrongQuestionError("the form is too long")
    fields: dict[str, str] = {}
    for name, value in parse_qsl(body.decode(errors="replace"), keep_blank_values=True):
        fields.setdefault(name, value)
    return fields
