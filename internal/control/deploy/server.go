package deploy

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/pki"
	"github.com/cardea-apim/cardea/internal/seal"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// KeyHeader carries the fingerprint of a node's master key.
const KeyHeader = "Cardea-Key"

const (
	maxCall  = 1 << 20 // bytes of a request body
	tokenTTL = 24 * time.Hour
)

// joinLog is what joining needs of the log.
type joinLog interface {
	AddJoinToken(ctx context.Context, hash apim.Digest, roles []string, expires time.Time) error
	UseJoinToken(ctx context.Context, hash apim.Digest, now time.Time) (roles []string, err error)
	Joined(ctx context.Context) (bool, error) // whether a node has ever joined
	Gateways(ctx context.Context) ([]apim.GatewayNode, error)
	members
}

// joinCounter is an ability of a log: how many tokens wait to be used.
type joinCounter interface {
	JoinTokens(ctx context.Context) (int, error)
}

// ServerOptions of the synchronisation server.
type ServerOptions struct {
	Feed     *Feed
	Log      joinLog
	Box      *seal.Box
	CA       *pki.CA       // nil on a control node that only joined: it cannot sign
	Identity *pki.Identity // of this control node
	Bus      string        // URLs of the bus for nodes that join; empty: none
	Always   bool          // open at once, because the configuration says so
	Opened   func() error  // called once when the listener opens: opens the bus too
	// Cut ends the connections to the bus that refused says are no longer to
	// be; nil: there are none.
	Cut    func(refused func(tls.ConnectionState) bool)
	Logger *slog.Logger
}

// Server lets nodes join and gateways elsewhere follow, over mutual TLS. It
// listens only once another node is expected.
type Server struct {
	o      ServerOptions
	mux    *http.ServeMux
	expect chan struct{}
	once   sync.Once

	mu   sync.Mutex
	addr net.Addr

	membership
}

// NewServer makes the server; Run opens it.
func NewServer(o ServerOptions) *Server {
	s := &Server{o: o, mux: http.NewServeMux(), expect: make(chan struct{})}
	s.mux.HandleFunc("GET /sync/v1/follow", s.node("gateway", s.follow))
	s.mux.HandleFunc("POST /sync/v1/ack", s.node("gateway", s.ack))
	s.mux.HandleFunc("GET /sync/v1/body/{hash}", s.node("gateway", s.body))
	s.mux.HandleFunc("POST /sync/v1/renew", s.node("", s.renew))
	s.mux.HandleFunc("POST /sync/v1/join", s.join)
	s.membership.init(o.Log)
	if o.Always {
		s.open()
	}
	return s
}

func (s *Server) open() { s.once.Do(func() { close(s.expect) }) }

// IssueToken makes a one-time token for a node with these roles, which is good
// for a day, and opens the listener.
func (s *Server) IssueToken(ctx context.Context, roles []string) (pki.Token, error) {
	if s.o.CA == nil {
		return pki.Token{}, errors.New("issue join token: the CA is on another control node")
	}
	t, err := IssueToken(ctx, s.o.Log, s.o.CA, roles)
	if err == nil {
		s.open()
	}
	return t, err
}

// IssueToken makes a one-time token from outside of the serving process, which
// notices it within seconds.
func IssueToken(ctx context.Context, log interface {
	AddJoinToken(ctx context.Context, hash apim.Digest, roles []string, expires time.Time) error
}, ca *pki.CA, roles []string,
) (pki.Token, error) {
	if len(roles) == 0 {
		return pki.Token{}, errors.New("issue join token: it needs roles")
	}
	for _, r := range roles {
		if !slices.Contains(pki.Roles, r) {
			return pki.Token{}, fmt.Errorf("issue join token: unknown role %q, known are %s", r, strings.Join(pki.Roles, ", "))
		}
	}
	t := ca.NewToken()
	if err := log.AddJoinToken(ctx, apim.Digest(t.Hash()), roles, time.Now().Add(tokenTTL)); err != nil {
		return pki.Token{}, err
	}
	return t, nil
}

// Addr is where the server listens; nil while it does not.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Run waits until another node is expected, then serves at addr until ctx ends.
func (s *Server) Run(ctx context.Context, addr string) error {
	if !s.awaited(ctx) {
		return nil
	}
	if _, err := s.learn(ctx); err != nil {
		return fmt.Errorf("open node synchronisation: %w", err)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("open node synchronisation: %w", err)
	}
	if s.o.Opened != nil {
		if err := s.o.Opened(); err != nil {
			ln.Close()
			return fmt.Errorf("open node synchronisation: %w", err)
		}
	}
	s.mu.Lock()
	s.addr = ln.Addr()
	s.mu.Unlock()
	s.o.Logger.InfoContext(ctx, "node synchronisation open", "addr", ln.Addr().String())
	hs := &http.Server{
		Handler:           s.mux,
		TLSConfig:         s.o.Identity.Server(true),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx }, // ends the streams with the server
		ErrorLog:          slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelDebug),
	}
	go s.watch(ctx)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		<-ctx.Done()
		bye, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer stop()
		if hs.Shutdown(bye) != nil {
			hs.Close()
		}
	}()
	err = hs.ServeTLS(ln, "", "")
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve node synchronisation: %w", err)
	}
	<-closed
	return nil
}

// awaited blocks until another node is expected.
func (s *Server) awaited(ctx context.Context) bool {
	t := time.NewTicker(2 * time.Second)
	defer t.Stop()
	for {
		if s.expected(ctx) {
			s.open()
		}
		select {
		case <-ctx.Done():
			return false
		case <-s.expect:
			return true
		case <-t.C:
		}
	}
}

// expected reports whether a token waits to be used or another node is known.
func (s *Server) expected(ctx context.Context) bool {
	if c, ok := s.o.Log.(joinCounter); ok {
		if n, err := c.JoinTokens(ctx); err == nil && n > 0 {
			return true
		}
	}
	joined, err := s.o.Log.Joined(ctx)
	return err == nil && joined
}

type caller struct {
	id     string
	roles  []string
	member string
	addr   string
}

// node wraps what only nodes with a certificate of the CA may call; role is
// what the certificate must say, empty for any.
func (s *Server) node(role string, fn func(w http.ResponseWriter, r *http.Request, c caller)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, roles, ok := pki.Peer(r.TLS)
		c := caller{id, roles, pki.Member(r.TLS), hostOf(r)}
		switch {
		case !ok:
			http.Error(w, "a node certificate is required", http.StatusUnauthorized)
		case role != "" && !slices.Contains(roles, role):
			http.Error(w, "the certificate of "+id+" lacks the role "+role, http.StatusForbidden)
		case r.Header.Get(KeyHeader) != s.o.Box.ID():
			http.Error(w, "node "+id+" has another master key", http.StatusConflict)
		case s.withdrawn(c.member):
			w.Header().Set("Connection", "close")
			http.Error(w, "node "+id+" was removed; it can only join anew", http.StatusForbidden)
		default:
			if err := s.met(r.Context(), c); err != nil {
				s.trouble(w, r, c, err)
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, maxCall)
			fn(w, r, c)
		}
	}
}

// hostOf is the address that a request came from, without the port.
func hostOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func (s *Server) follow(w http.ResponseWriter, r *http.Request, c caller) {
	after, err := snapshot.ParseVersion(r.URL.Query().Get("after"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	gw := apim.GatewayNode{ID: c.id}
	for _, e := range r.URL.Query()["env"] {
		if e != controlEnv {
			gw.Labels = append(gw.Labels, e)
		}
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	rc := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	ctx, forget := s.attend(r.Context(), c.member)
	defer forget()
	err = s.o.Feed.Follow(ctx, gw, after, func(d snapshot.Delta) error {
		// A node that does not read is cut off; it comes back by itself.
		if err := rc.SetWriteDeadline(time.Now().Add(30 * time.Second)); err != nil {
			return err
		}
		if err := enc.Encode(d); err != nil {
			return err
		}
		return rc.Flush()
	})
	if s.withdrawn(c.member) {
		err = errRemoved
	}
	if err != nil && r.Context().Err() == nil {
		s.o.Logger.WarnContext(r.Context(), "node no longer follows", "node", c.id, "err", err)
		// The head is sent: only breaking off tells the node that this is no end.
		panic(http.ErrAbortHandler)
	}
}

func (s *Server) ack(w http.ResponseWriter, r *http.Request, c caller) {
	var gw apim.GatewayNode
	if err := json.NewDecoder(r.Body).Decode(&gw); err != nil {
		http.Error(w, "not an acknowledgement: "+err.Error(), http.StatusBadRequest)
		return
	}
	gw.ID, gw.Local = c.id, false // whatever it says: a node speaks for itself only
	if err := s.o.Feed.Ack(r.Context(), gw); err != nil {
		s.trouble(w, r, c, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) body(w http.ResponseWriter, r *http.Request, c caller) {
	b, err := s.o.Feed.Body(r.Context(), r.PathValue("hash"))
	if missing(err) {
		http.Error(w, "no item has this body now", http.StatusNotFound)
		return
	}
	if err != nil {
		s.trouble(w, r, c, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := w.Write(b); err != nil {
		s.o.Logger.DebugContext(r.Context(), "body not delivered", "node", c.id, "err", err)
	}
}

// renew signs a new certificate with the same name and roles.
func (s *Server) renew(w http.ResponseWriter, r *http.Request, c caller) {
	if s.o.CA == nil {
		http.Error(w, "the CA is on another control node", http.StatusServiceUnavailable)
		return
	}
	var in pki.JoinRequest
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, "not a request: "+err.Error(), http.StatusBadRequest)
		return
	}
	id, cert, err := s.o.CA.SignMember([]byte(in.CSR), c.roles, c.member)
	if err != nil || id != c.id {
		http.Error(w, "not a certificate request of "+c.id, http.StatusBadRequest)
		return
	}
	s.reply(w, r, pki.JoinReply{Certificate: string(cert), CA: string(s.o.CA.PEM), Bus: s.o.Bus, Roles: c.roles})
}

// join makes a node of whoever holds a token: the one call without a certificate.
func (s *Server) join(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxCall)
	if s.o.CA == nil {
		http.Error(w, "the CA is on another control node", http.StatusServiceUnavailable)
		return
	}
	var in pki.JoinRequest
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, "not a request: "+err.Error(), http.StatusBadRequest)
		return
	}
	// Everything that can be wrong is looked at before the token is used up.
	id, _, err := s.o.CA.SignNode([]byte(in.CSR), nil)
	if err != nil {
		http.Error(w, "not a certificate request of a node", http.StatusBadRequest)
		return
	}
	if taken, err := s.taken(r.Context(), id); err != nil {
		s.trouble(w, r, caller{id: id}, err)
		return
	} else if taken {
		http.Error(w, "a node "+id+" is alive already", http.StatusConflict)
		return
	}
	token := pki.Token{CA: s.o.CA.Fingerprint(), Secret: in.Token}
	roles, err := s.o.Log.UseJoinToken(r.Context(), apim.Digest(token.Hash()), time.Now())
	switch {
	case missing(err) || errors.Is(err, fault.NotAuthorized.With("")):
		s.o.Logger.WarnContext(r.Context(), "join refused", "node", id, "from", r.RemoteAddr)
		http.Error(w, "the token is unknown, used or too old", http.StatusForbidden)
		return
	case err != nil:
		s.trouble(w, r, caller{id: id}, err)
		return
	}
	member := rand.Text()
	_, cert, err := s.o.CA.SignMember([]byte(in.CSR), roles, member)
	if err == nil {
		err = s.met(r.Context(), caller{id, roles, member, hostOf(r)})
	}
	if err != nil {
		s.trouble(w, r, caller{id: id}, err)
		return
	}
	s.o.Logger.InfoContext(r.Context(), "node joined", "node", id, "roles", roles, "from", r.RemoteAddr)
	s.reply(w, r, pki.JoinReply{
		Certificate: string(cert), CA: string(s.o.CA.PEM), MasterKey: hex.EncodeToString(s.o.Box.Master()),
		Bus: s.o.Bus, Roles: roles,
	})
}

// taken reports whether a node of that name is alive.
func (s *Server) taken(ctx context.Context, id string) (bool, error) {
	if id == s.o.Identity.ID() {
		return true, nil
	}
	gws, err := s.o.Log.Gateways(ctx)
	if err != nil {
		return false, err
	}
	oldest := time.Now().Add(-Lease).UnixMilli()
	return slices.ContainsFunc(gws, func(g apim.GatewayNode) bool { return g.ID == id && g.LastSeen >= oldest }), nil
}

func (s *Server) reply(w http.ResponseWriter, r *http.Request, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.o.Logger.WarnContext(r.Context(), "answer to a node not delivered", "err", err)
	}
}

func (s *Server) trouble(w http.ResponseWriter, r *http.Request, c caller, err error) {
	if r.Context().Err() == nil && !errors.Is(err, io.EOF) {
		s.o.Logger.ErrorContext(r.Context(), "node not served", "node", c.id, "path", r.URL.Path, "err", err)
	}
	http.Error(w, "the control node is in trouble", http.StatusServiceUnavailable)
}
