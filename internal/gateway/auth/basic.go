package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/gateway/exchange"
	"github.com/cardea-apim/cardea/internal/gateway/facts"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// Person is a user whose password was right, as the identity role knows them.
type Person struct {
	ID     string
	Name   string // without the tenant
	Tenant string
	Roles  []string // implicit ones too
}

// Directory is the identity role: it tells whose password it is. ErrPassword
// and ErrDelayed are its refusals; any other error means that it is away.
type Directory interface {
	Person(ctx context.Context, login, password string, from netip.Addr) (*Person, error)
}

// What a Directory may answer.
var (
	ErrPassword = errors.New("wrong user name or password")
	ErrDelayed  = errors.New("too many failed attempts")
)

var errCrowded = errors.New("too many passwords are being checked")

const (
	personKept   = time.Minute     // a verified password is believed
	personWait   = 3 * time.Second // for the identity role
	personShards = 64
	personMax    = 128 // per shard
	maxLogin     = 4 << 10
)

// Basic checks passwords: it asks the identity role, a bounded number at a
// time, and remembers those that were right for a short while under a key that
// this process made up, so that its memory holds no password and no hash that
// is worth anything elsewhere.
type Basic struct {
	directory Directory
	key       []byte
	asking    singleflight.Group
	places    chan struct{}
	shards    [personShards]personShard
}

type personShard struct {
	mu sync.Mutex
	m  map[[sha256.Size]byte]verified
}

type verified struct {
	person *Person
	at     time.Time
}

// NewBasic asks d.
func NewBasic(d Directory) *Basic {
	b := &Basic{directory: d, key: make([]byte, 32), places: make(chan struct{}, 4*runtime.GOMAXPROCS(0))}
	if _, err := rand.Read(b.key); err != nil {
		panic(err) // crypto/rand does not fail
	}
	return b
}

// mac covers both parts, told apart by a length.
func (b *Basic) mac(login, password string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, b.key)
	h.Write(binary.AppendUvarint(nil, uint64(len(login))))
	h.Write([]byte(login))
	h.Write([]byte(password))
	h.Sum(sum[:0])
	return sum
}

func (b *Basic) shard(mac *[sha256.Size]byte) *personShard { return &b.shards[mac[0]%personShards] }

// known is a person verified lately and not told to sign in again since.
func (b *Basic) known(f *facts.Facts, mac *[sha256.Size]byte, now time.Time) *Person {
	s := b.shard(mac)
	s.mu.Lock()
	v, ok := s.m[*mac]
	s.mu.Unlock()
	if !ok || now.Sub(v.at) > personKept || now.Before(v.at.Add(-personKept)) {
		return nil
	}
	// A changed password, a lock or a removal revokes what the user had.
	if r, ok := f.RevokedBefore.Get(v.person.ID); ok && !v.at.After(r.NotBefore) {
		return nil
	}
	return v.person
}

func (b *Basic) keep(mac *[sha256.Size]byte, p *Person, now time.Time) {
	s := b.shard(mac)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[[sha256.Size]byte]verified{}
	}
	if len(s.m) >= personMax {
		for k, v := range s.m {
			if now.Sub(v.at) > personKept {
				delete(s.m, k)
			}
		}
		for k := range s.m {
			if len(s.m) < personMax {
				break
			}
			delete(s.m, k)
		}
	}
	s.m[*mac] = verified{p, now}
}

// person finds out whose credentials these are. Callers with the same ones
// share one question.
func (b *Basic) person(f *facts.Facts, login, password string, from netip.Addr, now time.Time) (*Person, error) {
	mac := b.mac(login, password)
	if p := b.known(f, &mac, now); p != nil {
		return p, nil
	}
	v, err, _ := b.asking.Do(string(mac[:]), func() (any, error) {
		// Whoever asked first may leave; the others still want the answer.
		ctx, cancel := context.WithTimeout(context.Background(), personWait)
		defer cancel()
		select {
		case b.places <- struct{}{}:
			defer func() { <-b.places }()
		case <-ctx.Done():
			return nil, errCrowded
		}
		p, err := b.directory.Person(ctx, login, password, from)
		if err != nil {
			return nil, err
		}
		b.keep(&mac, p, now)
		return p, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*Person), nil
}

// basicApplication stands for the application of callers by password.
var basicApplication = snapshot.Application{Name: "BasicAuthApplication"}

// BasicScheme is Caller.Scheme of callers by password.
const BasicScheme = "basic"

func (a *Authenticator) password(f *facts.Facts, x *exchange.Exchange, r *Rules, scopes []string, header string, now time.Time, c *Caller) *exchange.Refusal {
	if a.Basic == nil {
		return bad("basic-not-verifiable")
	}
	login, password, ok := credentials(header)
	if !ok {
		return bad("basic-malformed")
	}
	p, err := a.Basic.person(f, login, password, x.Client, now)
	switch {
	case errors.Is(err, ErrPassword):
		return bad("basic-password")
	case errors.Is(err, ErrDelayed):
		return bad("basic-delayed", "cause", err.Error())
	case errors.Is(err, errCrowded):
		return exchange.Refuse(exchange.Fault, fault.GwOverload.With("Too many passwords are being checked"), "basic-crowded")
	case err != nil:
		return exchange.Refuse(exchange.Auth, fault.GwUnclassified.With("Unclassified Authentication Failure"), "identity-away", "cause", err.Error())
	}
	if p.Tenant != r.Tenant {
		return forbidden("basic-tenant", "tenant", p.Tenant)
	}
	c.Application, c.User, c.KeyType, c.Scheme = &basicApplication, p.Name+"@"+p.Tenant, Production, BasicScheme
	if !r.Production && r.Sandbox {
		c.KeyType = Sandbox
	}
	if len(scopes) > 0 && !r.rolesAllow(scopes, p.Roles) {
		return exchange.Refuse(exchange.Auth, fault.GwScope.With(scopeDetail), "scope", "required", strings.Join(scopes, " "), "user", c.User)
	}
	return nil
}

// rolesAllow reports whether the roles open any one of the scopes. A scope
// bound to no role is open to everybody.
func (r *Rules) rolesAllow(scopes, roles []string) bool {
	for _, s := range scopes {
		bound := r.ScopeRoles[s]
		if len(bound) == 0 {
			return true
		}
		for _, want := range bound {
			for _, has := range roles {
				if strings.EqualFold(want, has) {
					return true
				}
			}
		}
	}
	return false
}

// credentials reads the Basic part of an authorization header.
func credentials(header string) (login, password string, ok bool) {
	exchange.EachToken(header, func(t string) bool {
		if len(t) <= 6 || !exchange.Fold(t[:6], "Basic ") || len(t) > maxLogin {
			return true
		}
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(t[6:]))
		if err == nil {
			login, password, ok = strings.Cut(string(raw), ":")
		}
		return false
	})
	return login, password, ok && login != ""
}
