package apim

import "time"

// Identifiers of what the developer portal manages.
type (
	AppID          string
	SubscriptionID string
	KeyMappingID   string
)

// Application is a consumer of APIs.
type Application struct {
	Meta
	ID          AppID
	Name        string // unique per owner
	Owner       string // user name as the product shows it
	OwnerID     UserID
	Description string
	Policy      string // application throttling policy
	TokenType   string // JWT, OAUTH
	Status      string // APPROVED, CREATED, REJECTED, ...
	Groups      []string
	Attributes  map[string]string
	Visibility  string
	ResetAt     map[string]time.Time // user to the moment their application quota was reset
}

// KeyMapping binds an OAuth client to an application for one key type and key manager.
type KeyMapping struct {
	Meta
	ID          KeyMappingID
	Application AppID
	KeyManager  string // key manager id
	KeyType     string // PRODUCTION, SANDBOX
	ConsumerKey ClientID
	Mode        string // CREATED, MAPPED
	State       string // APPROVED, COMPLETED, CREATED, REJECTED
	Grants      []string
	Callback    string
	Properties  map[string]string

	// Of a client at another key manager: its name and secret, and where and with which
	// token it is managed there (RFC 7592), as far as they are known.
	ClientName   string `json:",omitempty"`
	Secret       Sealed `json:",omitempty"`
	ManageURL    string `json:",omitempty"`
	ManageAccess Sealed `json:",omitempty"`
}

// Subscription lets an application call an API under a business plan.
type Subscription struct {
	Meta
	ID          SubscriptionID
	Application AppID
	API         APIID
	Policy      string
	Requested   string // wanted plan while a change awaits approval
	State       string // UNBLOCKED, BLOCKED, PROD_ONLY_BLOCKED, ON_HOLD, REJECTED, ...
	Subscriber  string
}

// APIKey is an opaque key bound to one API. Only its hash is kept.
type APIKey struct {
	Meta
	ID          string // the keyUUID
	Name        string
	API         APIID
	Application AppID // associated application; may be empty
	KeyType     string
	Owner       string
	Hash        Digest    // sha256:hex
	IssuedAt    time.Time // when the present key was made; zero: at creation
	Expires     time.Time
	IPs         []string
	Referers    []string
	LastUsed    time.Time
}
