package fault

// Rows that answer 500 because clients of the original rely on it (reference:
// admin §1, §5; publisher §5, §7). They are the only mistakes of a client that do.
var (
	PolicyIsDefault      = Error{Kind: Pinned, Code: 500, Msg: "Internal Server Error", Detail: "The throttling policy is configured as a default of the tenant"}
	LimitMismatch        = Error{Kind: Pinned, Code: 500, Msg: "Internal Server Error", Detail: "The type of the limit and the given quota do not match"}
	OwnerChangeFailed    = Error{Kind: Pinned, Code: 500, Msg: "Internal Server Error", Detail: "The owner of the application could not be changed"}
	RevisionOfUnknownAPI = Error{Kind: Pinned, Code: 900967, Msg: "General Error", Detail: "Error while adding new API Revision for API : "}
	ArchiveWithoutRoot   = Error{Kind: Pinned, Code: 900967, Msg: "General Error", Detail: "Error occurred while validating API Definition"}
)

// PinnedRow is one mistake that answers 500, with the operation it belongs to.
type PinnedRow struct {
	Method, Path string // below the surface's base, as in its document
	Row          *Error
}

// PinnedRows is the whole list: tests of bad input have no other allow-list.
var PinnedRows = []PinnedRow{
	{"DELETE", "/throttling/policies/application/{policyId}", &PolicyIsDefault},
	{"DELETE", "/throttling/policies/subscription/{policyId}", &PolicyIsDefault},
	{"DELETE", "/throttling/policies/advanced/{policyId}", &PolicyIsDefault},
	{"POST", "/throttling/policies/application", &LimitMismatch},
	{"PUT", "/throttling/policies/application/{policyId}", &LimitMismatch},
	{"POST", "/throttling/policies/subscription", &LimitMismatch},
	{"PUT", "/throttling/policies/subscription/{policyId}", &LimitMismatch},
	{"POST", "/throttling/policies/advanced", &LimitMismatch},
	{"PUT", "/throttling/policies/advanced/{policyId}", &LimitMismatch},
	{"POST", "/applications/{applicationId}/change-owner", &OwnerChangeFailed},
	{"POST", "/apis/{apiId}/revisions", &RevisionOfUnknownAPI},
	{"POST", "/apis/import-openapi", &ArchiveWithoutRoot},
}

// MayAnswer500 reports whether the table lets the operation answer with 500.
func MayAnswer500(method, path string) bool {
	for _, r := range PinnedRows {
		if r.Method == method && r.Path == path {
			return true
		}
	}
	return false
}
