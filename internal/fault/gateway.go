package fault

// Rows of the gateway's own refusals. Codes, statuses and messages are those
// of the original (reference: gateway §5, traffic §1); `code` is rendered as a
// JSON string there. A row that only differs by description shares its code.
var (
	GwUnclassified    = Error{Kind: Internal, Code: 900900, Msg: "Unclassified Authentication Failure"}
	GwBadCredentials  = Error{Kind: Unauthenticated, Code: 900901, Msg: "Invalid Credentials"}
	GwNoCredentials   = Error{Kind: Unauthenticated, Code: 900902, Msg: "Missing Credentials"}
	GwExpired         = Error{Kind: Unauthenticated, Code: 900903, Msg: "Access Token Expired"}
	GwTokenKind       = Error{Kind: Unauthenticated, Code: 900905, Msg: "Incorrect Access Token Type is provided"}
	GwNoMatch         = Error{Kind: Forbidden, Code: 900906, Msg: "No matching resource found in the API for the given request"}
	GwBlocked         = Error{Kind: Unauthenticated, Code: 900907, Msg: "The requested API is temporarily blocked"}
	GwForbidden       = Error{Kind: Forbidden, Code: 900908, Msg: "Resource forbidden "}
	GwInactive        = Error{Kind: Unauthenticated, Code: 900909, Msg: "The subscription to the API is inactive"}
	GwScope           = Error{Kind: Forbidden, Code: 900910, Msg: "The access token does not allow you to access the requested resource"}
	GwNoDefinition    = Error{Kind: Internal, Code: 900911, Msg: "Internal Server Error"}
	GwKMUnavailable   = Error{Kind: Unauthenticated, Code: 900912, Msg: "Key manager not available"}
	GwAudience        = Error{Kind: Forbidden, Code: 900914, Msg: "The access token does not allow you to access the requested resource"}
	GwNoKeyEndpoint   = Error{Kind: Forbidden, Code: 900901, Msg: "Runtime Error"}
	GwAPIBlocked      = Error{Kind: Unavailable, Code: 700700, Msg: "API blocked"}
	GwAPILimit        = Error{Kind: Throttled, Code: 900800, Msg: "Message throttled out"}
	GwBackendLimit    = Error{Kind: Unavailable, Code: 900801, Msg: "API Limit Reached"}
	GwResourceLimit   = Error{Kind: Throttled, Code: 900802, Msg: "Message throttled out"}
	GwAppLimit        = Error{Kind: Throttled, Code: 900803, Msg: "Message throttled out"}
	GwSubLimit        = Error{Kind: Throttled, Code: 900804, Msg: "Message throttled out"}
	GwDenied          = Error{Kind: Forbidden, Code: 900805, Msg: "Message blocked"}
	GwCustomLimit     = Error{Kind: Throttled, Code: 900806, Msg: "Message throttled out"}
	GwBurst           = Error{Kind: Throttled, Code: 900807, Msg: "Message throttled out"}
	GwNotFound        = Error{Kind: NotFound, Code: 404, Msg: "Not Found"}
	GwNoResource      = Error{Kind: NotFound, Code: 404, Msg: "Runtime Error"}
	GwMethod          = Error{Kind: Invalid, HTTP: 405, Code: 405, Msg: "Runtime Error"}
	GwTransport       = Error{Kind: Forbidden, Code: 403, Msg: "Forbidden"}
	GwBadRequest      = Error{Kind: Invalid, Code: 400, Msg: "Bad Request"}
	GwUpstreamIO      = Error{Kind: Internal, Code: 101500, Msg: "Runtime Error"}
	GwUpstreamRead    = Error{Kind: Internal, Code: 101501, Msg: "Runtime Error"}
	GwUpstreamConnect = Error{Kind: Internal, Code: 101503, Msg: "Runtime Error"}
	GwUpstreamTimeout = Error{Kind: Internal, HTTP: 504, Code: 101504, Msg: "Runtime Error"}
	GwUpstreamClosed  = Error{Kind: Internal, Code: 101505, Msg: "Runtime Error"}
	GwUpstreamBroken  = Error{Kind: Internal, Code: 101506, Msg: "Runtime Error"}
	GwSuspended       = Error{Kind: Unavailable, Code: 303001, Msg: "Runtime Error"}
	GwOverload        = Error{Kind: Unavailable, Code: 503, Msg: "Service Unavailable"}
	GwTenantCase      = Error{Kind: Pinned, Code: 900900, Msg: "Runtime Error"}                       // a tenant domain in the wrong case
	GwExchangeOnly    = Error{Kind: Pinned, Code: 900900, Msg: "Unclassified Authentication Failure"} // the issuer's tokens are for exchange
	GwIncomplete      = Error{Kind: Invalid, Code: 102511, Msg: "Runtime Error"}
)
