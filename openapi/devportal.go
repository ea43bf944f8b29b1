package openapi

import _ "embed"

// Devportal is the document of the developer portal, version 3.
//
//go:embed devportal-v3.yaml
var Devportal []byte
