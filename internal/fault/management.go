package fault

// Rows of the management APIs. Codes, statuses and texts are those clients of
// the original match on (reference: publisher §2, devportal, admin, keymanager).
// Plain HTTP numbers are used as codes where the original does so.
var (
	General = Error{Kind: Internal, Code: 900967, Msg: "General Error", Detail: "Internal server error"}

	BadRequest      = Error{Kind: Invalid, Code: 400, Msg: "Bad Request"}
	NotAuthorized   = Error{Kind: Unauthenticated, Code: 401, Msg: "", Detail: "Unauthenticated request"}
	LoginDelayed    = Error{Kind: Unauthenticated, Code: 17003, Msg: "Too many failed attempts"}
	NotPermitted    = Error{Kind: Forbidden, Code: 403, Msg: "Forbidden"}
	Missing         = Error{Kind: NotFound, Code: 404, Msg: "Not Found"}
	Exists          = Error{Kind: Conflict, Code: 409, Msg: "Conflict"}
	PreconditionBad = Error{Kind: Changed, Code: 412, Msg: "Precondition Failed"}
	BodyTooLarge    = Error{Kind: TooLarge, Code: 413, Msg: "Payload Too Large"}
	MediaType       = Error{Kind: Unsupported, Code: 415, Msg: "Unsupported Media Type"}
	Busy            = Error{Kind: Unavailable, Code: 503, Msg: "Service Unavailable"}
	DiskFull        = Error{Kind: Full, Code: 507, Msg: "Insufficient Storage"}

	APINameExists     = Error{Kind: Conflict, Code: 900250, Msg: "The API name already exists."}
	APIContextExists  = Error{Kind: Conflict, Code: 900251, Msg: "The API context already exists."}
	APIVersionExists  = Error{Kind: Conflict, Code: 900252, Msg: "The API version already exists."}
	APIExists         = Error{Kind: Conflict, Code: 900300, Msg: "The API already exists."}
	TierNameInvalid   = Error{Kind: Invalid, Code: 900305, Msg: "The tier name is invalid."}
	APINotFound       = Error{Kind: NotFound, Code: 900308, Msg: "API not found"}
	APITypeInvalid    = Error{Kind: Invalid, Code: 900327, Msg: "The API type is invalid."}
	NoUpdateRight     = Error{Kind: Forbidden, Code: 900332, Msg: "No permission to update the API"}
	NoDeleteRight     = Error{Kind: Forbidden, Code: 900333, Msg: "No permission to delete the API"}
	NoReadRight       = Error{Kind: Forbidden, Code: 900340, Msg: "User is not authorized to access the API"}
	SubscriptionDup   = Error{Kind: Conflict, Code: 900336, Msg: "Subscription already exists"}
	CategoryInvalid   = Error{Kind: Invalid, Code: 900345, Msg: "The API category is invalid"}
	PropertiesInvalid = Error{Kind: Invalid, Code: 900346, Msg: "Invalid additional properties, context or endpoint URL"}
	RevisionNotFound  = Error{Kind: NotFound, Code: 900347, Msg: "API Revision Not Found"}
	RevisionDeployed  = Error{Kind: Invalid, Code: 900348, Msg: "The API revision is deployed and cannot be deleted"}
	RevisionsFull     = Error{Kind: Invalid, Code: 900351, Msg: "Maximum number of API revisions reached"}
	StateForbids      = Error{Kind: Forbidden, Code: 900380, Msg: "The update is not allowed in this lifecycle state"}
	EnvironmentBad    = Error{Kind: Invalid, Code: 900504, Msg: "Gateway Environment not found"}
	EnvNotFound       = Error{Kind: NotFound, Code: 900506, Msg: "Gateway Environment not found"}
	EnvExists         = Error{Kind: Invalid, Code: 900507, Msg: "Gateway Environment already exists"}
	EnvReadOnly       = Error{Kind: Invalid, Code: 900508, Msg: "The Gateway Environment is read only"}
	EnvVhostDup       = Error{Kind: Invalid, Code: 900509, Msg: "Duplicate virtual hosts"}
	EnvNameReadOnly   = Error{Kind: Invalid, Code: 900510, Msg: "The name of a Gateway Environment cannot be changed"}
	RolesInvalid      = Error{Kind: Invalid, Code: 900610, Msg: "Invalid user roles found"}
	OpenAPIParse      = Error{Kind: Invalid, Code: 900754, Msg: "Error while parsing the OpenAPI definition"}
	OpenAPIMissing    = Error{Kind: Invalid, Code: 900755, Msg: "OpenAPI definition not found"}
	OpenAPIURL        = Error{Kind: Invalid, Code: 900756, Msg: "The OpenAPI URL is invalid or unreachable"}
	OpenAPIMalformed  = Error{Kind: Invalid, Code: 900758, Msg: "The OpenAPI definition is malformed"}
	OpenAPIUnknown    = Error{Kind: Invalid, Code: 900759, Msg: "The definition is not a supported OpenAPI version"}
	OpenAPIInvalid2   = Error{Kind: Invalid, Code: 900760, Msg: "The Swagger 2.0 definition is invalid"}
	OpenAPIInvalid3   = Error{Kind: Invalid, Code: 900761, Msg: "The OpenAPI 3 definition is invalid"}
	OpenAPINoPaths    = Error{Kind: Invalid, Code: 900763, Msg: "The OpenAPI definition has no resources"}
	InvalidPermission = Error{Kind: Forbidden, Code: 900915, Msg: "Invalid Permission"}
	AppConfigInvalid  = Error{Kind: Invalid, Code: 900970, Msg: "Application configuration values cannot have string values."}
	ScopeNotFound     = Error{Kind: NotFound, Code: 900981, Msg: "Scope not found"}
	ScopeExists       = Error{Kind: Conflict, Code: 900982, Msg: "Scope already exists"}
	KMNotFound        = Error{Kind: Invalid, Code: 901403, Msg: "Key Manager not Registered"}
	KMUnsupported     = Error{Kind: Invalid, Code: 901405, Msg: "Key Manager doesn't support generating OAuth applications"}
	KMDisabled        = Error{Kind: Invalid, Code: 901406, Msg: "Key Manager is disabled"}
	KMFailed          = Error{Kind: Unavailable, HTTP: 502, Code: 901407, Msg: "The Key Manager did not do what was asked"}
	KeyMappingExists  = Error{Kind: Conflict, Code: 901409, Msg: "Key Mappings already exists"}
	NoTiers           = Error{Kind: Invalid, Code: 903224, Msg: "Failed to publish service to API store. No Tiers selected"}
	NoRevisions       = Error{Kind: Invalid, Code: 903225, Msg: "Revisions are not supported for third party APIs"}
	ExpiryInvalid     = Error{Kind: Invalid, Code: 901410, Msg: "Invalid application access token expiry time given"}
	PasswordChangeOff = Error{Kind: Invalid, Code: 901450, Msg: "Password change disabled"}
	PasswordCurrent   = Error{Kind: Invalid, Code: 901451, Msg: "The current password is incorrect"}
	PasswordPattern   = Error{Kind: Invalid, Code: 901452, Msg: "The password does not match the pattern"}
	SystemScopeHolder = Error{Kind: NotFound, Code: 901500, Msg: "Scope not found for the user"}
	TenantConfInvalid = Error{Kind: Invalid, Code: 902001, Msg: "Invalid tenant-config found"}
	KMConnector       = Error{Kind: Invalid, Code: 901401, Msg: "Required Key Manager configuration missing"}
)
