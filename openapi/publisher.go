// Package openapi holds our OpenAPI documents of the management APIs, which
// drive routing, scope checks and validation. They are made by openapi/gen.
package openapi

import _ "embed"

// Publisher is the document of the publisher, version 4.
//
//go:embed publisher-v4.yaml
var Publisher []byte
