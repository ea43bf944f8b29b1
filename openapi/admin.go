package openapi

import _ "embed"

// Admin is the document of the administration, version 4.
//
//go:embed admin-v4.yaml
var Admin []byte
