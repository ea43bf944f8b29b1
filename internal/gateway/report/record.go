package report

import (
	"net/netip"
	"time"

	"github.com/cardea-apim/cardea/internal/usage"
)

// Source is what all calls of one deployed API have in common. It is compared
// by address, so an API makes one and keeps it.
type Source struct {
	Tenant      string
	API         string // id; empty when no API was found
	Name        string
	Version     string
	Environment string
}

// Record is one call, served or refused. Of its strings Path, UserAgent and ID
// are copied; the others are kept.
type Record struct {
	Source      *Source // never nil
	Operation   string  // URI template; empty when none matched
	Verb        string  // a verb of the API; empty when none matched
	Application string
	User        string
	KeyType     string
	Status      int
	Code        int // of a gateway error

	Time      time.Time
	Gateway   time.Duration // spent in the gateway
	Backend   time.Duration // spent waiting for the backend
	BytesIn   int64
	BytesOut  int64
	ID        string // decision id, or the caller's correlation id; may be empty
	Path      string
	Client    netip.Addr
	UserAgent string

	Decision *usage.Decision // of a refusal
}
