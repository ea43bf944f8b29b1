package fault

// Rows that answer 500 because clients of the original rely on it (reference:
// admin §1, §5). They are the only mistakes of a client that do.
var (
	PolicyIsDefault   = Error{Kind: Pinned, Code: 500, Msg: "Internal Server Error", Detail: "The throttling policy is configured as a default of the tenant"}
	LimitMismatch     = Error{Kind: Pinned, Code: 500, Msg: "Internal Server Error", Detail: "The type of the limit and the given quota do not match"}
	OwnerChangeFailed = Error{Kind: Pinned, Code: 500, Msg: "Internal Server Error", Detail: "The owner of the application could not be changed"}
)
