package apim

import "time"

// Kinds of Ephemeral.
const (
	EphemeralCode    = "code"    // authorization codes
	EphemeralSession = "session" // signed-in browsers
	EphemeralConsent = "consent" // what users have allowed clients
	EphemeralDevice  = "device"  // device authorizations
	EphemeralPAR     = "par"     // pushed authorization requests
	EphemeralAccess  = "access"  // opaque access tokens
	EphemeralDPoP    = "dpop"    // proofs seen
	EphemeralState   = "state"   // authorization requests under way
)

// Ephemeral is a row with an end that a protocol keeps between two requests.
// It is no noun: it has no history, no audit and no place in snapshots.
type Ephemeral struct {
	Kind    string
	Hash    Digest // of the secret handle, or a natural key; unique per kind
	Tenant  TenantID
	Subject string // whom it is about, such as a user's id; may be empty
	Client  string // consumer key; may be empty
	Created time.Time
	Expires time.Time // zero: never
	Used    time.Time // when its one use was; zero: not yet
	Doc     []byte    // JSON of the kind's own struct
}
