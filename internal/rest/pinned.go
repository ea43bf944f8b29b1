package rest

import "github.com/cardea-apim/cardea/internal/fault"

// Pinned are the mistakes of clients that the original answers with 500 and
// that its clients rely on. Nothing else a client does may end in a 500: tests
// for bad input use this table as their only allow-list.
var Pinned = struct {
	RevisionOfUnknownAPI fault.Error // POST /apis/{id}/revisions of an API that does not exist
	ArchiveWithoutRoot   fault.Error // POST /apis/import-openapi of an archive without a master file
}{
	RevisionOfUnknownAPI: fault.Error{Kind: fault.Pinned, Code: 900967, Msg: "General Error", Detail: "Error while adding new API Revision for API : "},
	ArchiveWithoutRoot:   fault.Error{Kind: fault.Pinned, Code: 900967, Msg: "General Error", Detail: "Error occurred while validating API Definition"},
}
