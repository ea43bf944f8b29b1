package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Kind names what an item is about.
type Kind string

// The kinds of items. The comment gives the id of an item of that kind.
const (
	KindAPI          Kind = "api"     // API id; Env names the gateway environment
	KindApplication  Kind = "app"     // application id
	KindKey          Kind = "key"     // key manager id + "/" + consumer key
	KindSubscription Kind = "sub"     // application id + "/" + API id
	KindAPIKey       Kind = "apikey"  // hex SHA-256 of the key
	KindAppPolicy    Kind = "apppol"  // tenant + "/" + name
	KindSubPolicy    Kind = "subpol"  // tenant + "/" + name
	KindAPIPolicy    Kind = "apipol"  // tenant + "/" + name
	KindKeyManager   Kind = "km"      // key manager id
	KindRevocation   Kind = "revoked" // "jti/" + jti, or "sub/" + entity for everything issued before NotBefore
	KindTenant       Kind = "tenant"  // domain
	KindEnvironment  Kind = "env"     // environment name
)

// Key addresses an item. Env is empty for what every gateway must know.
type Key struct {
	Kind Kind   `json:"k"`
	ID   string `json:"i"`
	Env  string `json:"e,omitempty"`
}

// String is kind/id or kind/id@env.
func (k Key) String() string {
	if k.Env == "" {
		return string(k.Kind) + "/" + k.ID
	}
	return string(k.Kind) + "/" + k.ID + "@" + k.Env
}

// Item is one fact at one version. Body is JSON of the type of its kind; it is
// absent when Deleted, and when Size exceeds InlineLimit and the item came over
// the network, in which case it is fetched by Hash.
type Item struct {
	Key
	Seq     uint64          `json:"q"`
	Deleted bool            `json:"d,omitempty"`
	Hash    string          `json:"h,omitempty"` // hex SHA-256 of Body
	Size    int             `json:"s,omitempty"`
	Body    json.RawMessage `json:"b,omitempty"`
}

// InlineLimit is the largest body, in bytes, that travels inside a delta.
const InlineLimit = 64 << 10

// Delta carries a gateway from one version to the next. With Full, whatever is
// not in it no longer exists; with More, the deltas that follow belong to it
// and Version is only where the next one starts.
type Delta struct {
	Version Version `json:"v"`
	Full    bool    `json:"full,omitempty"`
	More    bool    `json:"more,omitempty"`
	Items   []Item  `json:"items,omitempty"`
}

// Make encodes body as an item of that key.
func Make(key Key, body any) (Item, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return Item{}, err
	}
	sum := sha256.Sum256(b)
	return Item{Key: key, Hash: hex.EncodeToString(sum[:]), Size: len(b), Body: b}, nil
}

// Valid reports whether the body is what Hash and Size say.
func (it *Item) Valid() bool {
	if it.Deleted {
		return true
	}
	sum := sha256.Sum256(it.Body)
	return len(it.Body) == it.Size && hex.EncodeToString(sum[:]) == it.Hash
}
