package facts

import (
	"crypto/sha256"
	"net/netip"
	"time"

	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/token"
)

// Pair is an application and an API.
type Pair struct{ Application, API string }

// Consumer is a key manager (its id) and a consumer key.
type Consumer struct{ KeyManager, Key string }

// Named is a tenant and the name of one of its policies.
type Named struct{ Tenant, Name string }

// Key is an API key with its conditions prepared.
type Key struct {
	snapshot.APIKey
	Prefixes []netip.Prefix // permitted addresses; empty: any
	Referers []string       // permitted referers, "*" matches anything; empty: any
}

// Policy is a throttling policy with its conditions prepared.
type Policy struct {
	snapshot.Policy
	Groups []Group
}

// Group is a condition group; a call that matches it counts against Limit only.
type Group struct {
	Conditions []Condition
	Limit      snapshot.Limit
}

// Facts is one state of everything but the APIs.
type Facts struct {
	Applications  Table[string, *snapshot.Application]
	Keys          Table[Consumer, *snapshot.KeyMapping]
	Subscriptions Table[Pair, *snapshot.Subscription]
	APIKeys       Table[[sha256.Size]byte, *Key] // by token.Sum
	AppPolicies   Table[Named, *Policy]
	SubPolicies   Table[Named, *Policy]
	APIPolicies   Table[Named, *Policy]
	KeyManagers   map[string]*KeyManager // by id
	RevokedIDs    Table[string, time.Time]
	RevokedBefore Table[string, snapshot.Revocation] // by entity
	Tenants       map[string]bool                    // domain to active
	Environments  map[string]string                  // name to type
	VHosts        map[string][]string                // of an environment, in lower case
	Foreign       []*KeyManager                      // enabled ones that calls may have to look at by name: see KeyManager.special
}

// KeyManager is an issuer of tokens. It is the Tag of its token.Issuer, which
// is kept while nothing of it changes, so that verified tokens stay cached.
type KeyManager struct {
	snapshot.KeyManager
	Issuer *token.Issuer
	Hash   string // of the item
	Rules  []Rule
}
