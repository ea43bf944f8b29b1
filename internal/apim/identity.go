package apim

import "time"

// Identifiers are UUIDs unless a comment says otherwise.
type (
	UserID   string
	RoleID   string
	ClientID string // the consumer key
	KeyID    string
)

// Sealed is a secret encrypted with the master key (package seal). Its text
// starts with "sealed:", by which audits recognise and mask it.
type Sealed string

// Digest is a one-way form of a secret: "argon2id:..." for passwords,
// "sha256:" and hex for high-entropy keys. Audits mask it too.
type Digest string

// Tenant is an organisation with its own users, APIs and policies.
type Tenant struct {
	Meta      // Tenant is its own domain
	Domain    TenantID
	Number    int64 // the original's numeric id: -1234 for carbon.super, then 1, 2, ...
	Admin     string
	Email     string
	FirstName string
	LastName  string
	Active    bool
}

// TenantConf is the tenant configuration: one JSON document (reference: tenant-conf).
type TenantConf struct {
	Meta
	ID   TenantID
	JSON string
}

// User is a person or machine that signs in. Name is unique per tenant ignoring case.
type User struct {
	Meta
	ID         UserID
	Name       string // without tenant; SECONDARY/name for secondary stores
	Password   Digest
	Roles      []string          // Internal/creator, admin, ...; Internal/everyone is implicit
	Claims     map[string]string // claim URI to value
	Locked     bool
	PasswordAt time.Time
	Subscriber bool // has been in the portal: DefaultApplication was made and is not made again
}

// Role is a named set of users. Permissions are the original's permission paths.
type Role struct {
	Meta
	ID          RoleID
	Name        string
	Permissions []string
	External    string // its id where it is managed, as SCIM clients send it
}

// Secret is one client secret; several may be live at once.
type Secret struct {
	ID          string
	Description string
	Hash        Digest
	Sealed      Sealed
	CreatedAt   time.Time
	Expires     time.Time // zero: never
}

// Client is an OAuth 2 client. ID is the consumer key.
type Client struct {
	Meta
	ID            ClientID
	Name          string // unique per tenant
	Owner         string // user name within the tenant
	OwnerID       UserID
	Secrets       []Secret
	Grants        []string
	Callback      string // as registered; may be regexp=(...)
	TokenType     string // JWT, OAUTH (opaque), DEFAULT
	SaaS          bool   // usable by users of other tenants
	Public        bool   // token calls need only the client id
	PKCEMandatory bool
	PKCEPlain     bool
	AppExpiry     time.Duration // application access tokens; 0: server default
	UserExpiry    time.Duration
	RefreshExpiry time.Duration
	IDExpiry      time.Duration
	SkipConsent   bool
	Inactive      bool
	Audiences     []string
	Origin        string // dcr, application, system
	Attributes    map[string]string
}

// SigningKey signs tokens. Private is sealed PKCS#8.
type SigningKey struct {
	Meta
	ID        KeyID  // kid
	Algorithm string // RS256, PS256, ES256, EdDSA
	Private   Sealed
	Public    string    // PEM certificate
	NotBefore time.Time // first use
	Retired   time.Time // no longer signs; zero while it does
}

// RefreshToken is one link of a family of refresh tokens, found by hash.
type RefreshToken struct {
	Hash          Digest
	Family        string
	Tenant        TenantID
	Client        ClientID
	User          UserID
	UserName      string
	Scopes        []string
	IssuedAt      time.Time
	Expires       time.Time
	UsedAt        time.Time // zero: live
	Access        string    // jti of the access token issued with it
	AccessExpires time.Time
}

// Revocation makes tokens worthless: one by JTI, or all of an Entity (user id or
// consumer key) issued before NotBefore. It can be dropped after Expires.
type Revocation struct {
	ID        string // "jti/..." or "sub/..."
	Tenant    TenantID
	JTI       string
	Entity    string
	NotBefore time.Time
	Expires   time.Time
}
