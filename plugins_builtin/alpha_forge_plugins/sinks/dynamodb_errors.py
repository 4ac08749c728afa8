"""What DynamoDB's answers mean for a sink: try again later, or a mistake that somebody has to mend."""

from __future__ import annotations

from alpha_forge_sdk import AlphaForgeError, RetryLater

# Throttled, or broken on their side. Codes, never texts: engines differ in those.
_PASSING = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "Throttling",
        "RequestLimitExceeded",
        "LimitExceededException",
        "InternalServerError",
        "InternalFailure",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ReplicatedWriteConflictException",
    }
)
_NOT_ALLOWED = frozenset(
    {
        "AccessDeniedException",
        "AccessDenied",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignatureException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)

NEEDED = "dynamodb:DescribeTable and dynamodb:BatchWriteItem on the table"


def code_of(error: Exception) -> str:
    """DynamoDB's own code of an error, empty if it did not answer."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def text_of(error: Exception) -> str:
    """Code and message of an error that DynamoDB answered with."""
    response = getattr(error, "response", None) or {}
    found = response.get("Error", {})
    return f"{found.get('Code', 'error')}: {found.get('Message') or 'no message'}"


def translated(error: Exception, table: str, where: str) -> Exception:
    """An exception of botocore as the sink raises it. `where` is the region or endpoint, for the message."""
    from botocore import exceptions as botocore  # type: ignore[import-untyped]

    if isinstance(error, botocore.ClientError):
        return _answered(error, table, where)
    if isinstance(error, botocore.NoCredentialsError | botocore.PartialCredentialsError):
        return AlphaForgeError(
            "AF6062",
            f"sinks.dynamodb has no credentials for the table '{table}': {error}",
            "set access_key_id and secret_access_key: ${env:…}, or what the AWS tools use (AWS_PROFILE, a role); "
            "DynamoDB Local takes any text for both",
        )
    if isinstance(error, botocore.SSLError):
        return AlphaForgeError(
            "AF6064", f"no secure connection to {where}: {error}", "look at endpoint_url and its certificate"
        )
    # Refused, silent, cut off, unreadable: nothing is known of what was stored, and the same again does no harm.
    return RetryLater(f"table '{table}', {where}: {type(error).__name__}: {error}")


def _answered(error: Exception, table: str, where: str) -> Exception:
    code, text = code_of(error), text_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)  # type: ignore[attr-defined]
    if code in _PASSING or status >= 500:
        return RetryLater(f"table '{table}', {where}: {text}")
    if code == "ResourceNotFoundException":
        return missing(table, where)
    if code in _NOT_ALLOWED:
        return AlphaForgeError(
            "AF6062",
            f"the table '{table}', {where}, is not open to these credentials: {text}",
            f"allow {NEEDED}; look at the keys, their expiry, and whether the region is theirs",
        )
    return AlphaForgeError(
        "AF6064",
        f"DynamoDB refused a request for the table '{table}', {where}: {text}",
        "mend what it names; the records are kept and come again",
    )


def missing(table: str, where: str) -> AlphaForgeError:
    return AlphaForgeError(
        "AF6060",
        f"there is no table '{table}', {where}",
        "correct table_name or region, or let the sink make it with create_table: true",
    )


def unfit(table: str, what: str, help: str) -> AlphaForgeError:
    return AlphaForgeError("AF6061", f"the table '{table}' does not fit: {what}", help)


def nowhere(what: str, help: str) -> AlphaForgeError:
    return AlphaForgeError("AF6063", what, help)
